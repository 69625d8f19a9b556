"""diff: compare the inventory with the parent snapshot; the result is the change set and the copy plan in one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import field
from itertools import chain

import numpy as np
import pyarrow as pa

from moraine.engine.diff import Rules, compare, renamed
from moraine.engine.lots import Lots
from moraine.engine.plan import Planner, PlanShard
from moraine.engine.rows import Cursor, aligned, overlay
from moraine.model import compute as pc
from moraine.model.entry import Kind, Op
from moraine.model.record import dataclass
from moraine.model.schemas import INVENTORY
from moraine.model.snapshot import Snapshot
from moraine.repository.work import Ref
from moraine.steps.list import Listed
from moraine.steps.run import Run
from moraine.steps.suspects import paths_again

RENAME_ROWS = 1 << 20
Lens = Callable[[Iterator[pa.Table]], Iterator[pa.Table]]


@dataclass(frozen=True, slots=True)
class Diffed:
    """The change set against the parent, cut into copy shards."""

    changes: Ref
    shards: tuple[PlanShard, ...]
    counts: dict[str, int] = field(default_factory=dict)


def diff_entries(run: Run, listed: Sequence[Listed], *, through: Lens | None = None) -> Diffed:
    """Find what has changed since the parent snapshot, and plan who copies what.

    Args:
        run: the run.
        listed: the source, in parts.
        through: how the parent's rows are looked at.

    Raises:
        SessionGone: an inventory has been swept.
        MissingObject, DamagedObject, ForgedObject: the parent's manifest is not whole.
    """
    run.progress.start("diff")
    counts = {
        "entries": sum(part.entries for part in listed),
        "files": sum(part.files for part in listed),
        "directories": sum(part.directories for part in listed),
        "bytes": sum(part.bytes for part in listed),
        "denied": sum(part.denied for part in listed),
    }
    parent = _parent(run)
    planner = Planner(
        shard_bytes=run.policy.shards.copy_bytes,
        shard_files=run.policy.shards.copy_files,
        most=run.policy.shards.most,
        total_bytes=counts["bytes"],
        total_files=counts["entries"],
        # Names of one file are only known to be that within a shard: another would read it again.
        least=1 if any(part.linked for part in listed) else run.processes,
    )
    tally = _Tally(counts, parent)
    differences = _differences(run, listed, parent, through)
    changes = run.work.save_pieces(run.unique("changes/all"), _planned(differences, parent, planner, tally))
    run.progress.finish("diff")
    return Diffed(changes, tuple(planner.shards()), counts)


def _parent(run: Run) -> Snapshot | None:
    parent = run.session.parent
    # A parent forgotten since the session was opened only costs a full read.
    return run.repository.snapshot(parent) if parent in run.repository.state.snapshots else None


def _planned(
    differences: Iterator[pa.Table], parent: Snapshot | None, planner: Planner, tally: _Tally
) -> Iterator[tuple[int, pa.Table]]:
    # Rename labels look back as well as forward, so a night's changes are held before they go on; beyond a million
    # rows they stream through without that label.
    held: list[pa.Table] = []
    if parent:
        for table in differences:
            held.append(table)
            if sum(map(len, held)) > RENAME_ROWS:
                break
    deleted = pa.concat_tables([_gone(table) for table in held]) if held else INVENTORY.empty_table()
    for table in chain((renamed(table, deleted) for table in held), differences):
        tally.add(table)
        yield from planner.assign(table)


def _gone(changes: pa.Table) -> pa.Table:
    mask = (changes["op"].to_numpy() == Op.DELETED) & (changes["kind"].to_numpy() == Kind.FILE)
    return pc.filter(changes.select(["inode", "size", "mtime", "mtime_ns"]), pc.from_numpy(mask))


def _differences(
    run: Run, listed: Sequence[Listed], parent: Snapshot | None, through: Lens | None
) -> Iterator[pa.Table]:
    compared = run.policy.source.compare
    again = paths_again(run.repository, run.policy.policy, run.session.parent)
    rules = Rules(compared.ctime, compared.inode, run.policy.rehash, again, all_again=again is None)
    lots = Lots(run.session.id)
    inventory = merged([Cursor(run.work.load_pieces(part.inventory)) for part in listed])
    known = run.repository.manifest(parent).tables() if parent else iter(())
    for found, before in aligned(Cursor(inventory), Cursor(through(known) if through else known)):
        changes = compare(found, before, rules, run.session.id, lots)
        if changes.num_rows:
            yield changes


def merged(cursors: list[Cursor]) -> Iterator[pa.Table]:
    """Several sorted streams as one."""
    while waiting := [cursor for cursor in cursors if not cursor.done]:
        if len(waiting) == 1:
            yield from waiting[0].take_before(None)
            return
        limit = min(cursor.last_key() for cursor in waiting)
        parts = [part for cursor in waiting if (part := cursor.take_through(limit)) is not None]
        yield overlay(parts)


class _Tally:
    """Counts a change set as it goes by."""

    def __init__(self, counts: dict[str, int], parent: Snapshot | None) -> None:
        self._counts = counts
        counts["parent_files"] = parent.totals.files if parent else 0
        counts["changes"] = counts["deleted_files"] = counts["modified_files"] = counts["read_bytes"] = 0
        for op in Op:
            counts[op.name.lower()] = 0

    def add(self, changes: pa.Table) -> None:
        op = changes["op"].to_numpy()
        file = changes["kind"].to_numpy() == Kind.FILE
        read = changes["read"].to_numpy()
        for kind in Op:
            self._counts[kind.name.lower()] += int(np.count_nonzero(op == kind))
        self._counts["changes"] += changes.num_rows
        self._counts["deleted_files"] += int(np.count_nonzero(file & (op == Op.DELETED)))
        self._counts["modified_files"] += int(np.count_nonzero(file & (op == Op.MODIFIED)))
        self._counts["read_bytes"] += int(changes["size"].to_numpy()[read].sum())
