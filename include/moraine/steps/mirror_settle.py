"""settle: make the mirror what the manifest will say, and see that it is.

Once all shards are copied: what the source has not goes to the trash, further names of files are linked, directories
get their attributes, everything is made durable; then the whole mirror is listed and compared. That listing is kept:
the next run tells by it what somebody else has done meanwhile. Runs again after any crash.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, field
from typing import Any

import numpy as np
import pyarrow as pa

from moraine.engine.rows import Cursor, aligned, match, rechunk
from moraine.errors import DamagedObject
from moraine.model.entry import Kind, Op, State, display_path, join_path
from moraine.model.record import dataclass
from moraine.model.schemas import INVENTORY
from moraine.model.window import format_time
from moraine.repository.manifest import merge_window
from moraine.repository.work import Ref
from moraine.sources.mirror import Mirror, MirrorWriter, trash_name
from moraine.sources.target import Notes
from moraine.steps.commit import Committed, commit, require_newest
from moraine.steps.commit_rows import Tally, final_rows
from moraine.steps.diff import Diffed
from moraine.steps.list import PIECE_ROWS
from moraine.steps.mirror_diff import drift_report
from moraine.steps.mirror_drift import holdable, last_seen, save_seen
from moraine.steps.restore_rows import Window
from moraine.steps.run import Run

_SEEN = ("kind", "mode", "uid", "gid", "mtime", "mtime_ns")
_NAMED = 20
_TOUCHED = ("added_bytes", "silent", "racy", "vanished", "denied")  # totals of a shard


@dataclass(slots=True)
class Evidence:
    """What a run saw of the mirror when it was done: kept in the snapshot."""

    at: str
    depth: str = "listing"
    entries: int = 0  # compared with the manifest
    removed: int = 0  # went to the trash because the source has them not, a directory with all in it counted once
    linked: int = 0
    only_listed: int = 0  # the tree cannot hold them: the inventory does, and restore brings them back
    differing: int = 0  # the mirror could not take every attribute
    notes: dict[str, int] = field(default_factory=dict)
    named: list[dict[str, str]] = field(default_factory=list)
    trash: str = ""
    mirror: list[dict[str, Any]] = field(default_factory=list)
    packs: list[str] = field(default_factory=list)  # none


def commit_mirror(run: Run, diffed: Diffed, outcomes: Sequence[Ref], evidence: Sequence[Ref]) -> Committed:
    """Settle the mirror, then make the snapshot a fact.

    Raises:
        DamagedObject: the mirror is not as it was written; nothing is committed.
        CommitRefused: another run has committed meanwhile, or a shard is missing.
        Errors of `commit`.
    """
    if any(record.session == run.session.id for record in run.repository.state.snapshots.values()):
        return commit(run, diffed, outcomes, evidence)
    settled = settle_mirror(run, diffed, outcomes)
    return commit(run, diffed, outcomes, [*evidence, run.work.save_json(run.unique("settled"), asdict(settled))])


def settle_mirror(run: Run, diffed: Diffed, outcomes: Sequence[Ref]) -> Evidence:
    """Remove, link, finish, and compare; what was seen."""
    assert run.mirror
    run.progress.start("settle")
    run.repository.log.refresh()
    run.repository.state.require_open(run.session.id, run.session.attempt)
    require_newest(run, run.repository.state)
    copied = {doc["shard"]: doc for doc in map(run.work.load_json, outcomes)}
    if not _anything_done(diffed, copied) and (before := _left_as_it_was(run)) is not None:
        run.progress.finish("settle")
        return before
    trash = trash_name(run.session.opened_at, run.session.id, run.session.attempt)
    work = _Settling(run, run.mirror, diffed, copied, Evidence(format_time(run.clock()), trash=trash))
    with run.mirror.writer(trash, run.unique(run.session.id)) as writer:
        work.apply(writer)
        notes = writer.notes
    work.compare()
    for doc in copied.values():
        _add(work.evidence, doc["notes"], doc["named"])
    _add(work.evidence, notes.counts, Notes.to_list(notes))
    run.progress.finish("settle")
    return work.evidence


def _anything_done(diffed: Diffed, copied: dict[int, Any]) -> bool:
    """Whether the mirror may be another than before; a sample that was read again in the source does not change it."""
    touched = any(doc["totals"][name] for doc in copied.values() for name in _TOUCHED)
    return touched or diffed.counts["changes"] > diffed.counts[Op.REHASH.name.lower()]


def _left_as_it_was(run: Run) -> Evidence | None:
    """What the run before saw, where `diff` has just found all of it again; else None."""
    drift = drift_report(run)
    looked = drift["at"] and not (drift["ours"] or drift["moved"] or any(drift["counts"].values()))
    seen = last_seen(run.repository, run.session.parent) if looked else None
    if seen is None or seen["differing"]:  # what the mirror could not take before is tried again
        return None
    return Evidence(drift["at"], entries=seen["entries"], only_listed=seen["only_listed"], mirror=seen["mirror"])


def _add(evidence: Evidence, counts: dict[str, int], named: list[dict[str, str]]) -> None:
    for code, count in counts.items():
        evidence.notes[code] = evidence.notes.get(code, 0) + count
    evidence.named += named[: max(0, 1000 - len(evidence.named))]


@dataclass(slots=True)
class _Settling:
    """One try: two passes over the mirror's listing and the rows of the manifest to be."""

    run: Run
    mirror: Mirror
    diffed: Diffed
    copied: dict[int, Any]
    evidence: Evidence
    _folders: list[tuple[pa.Table, Any]] = field(default_factory=list)  # rows, and whether all attributes are set
    _linked: list[pa.Table] = field(default_factory=list)

    def apply(self, writer: MirrorWriter) -> None:
        """Everything that changes the mirror."""
        gone: list[tuple[bytes, bytes]] = []
        moved: set[bytes] = set()
        for found, wanted in self._windows():
            gone += self._extras(found, wanted, moved)
            if wanted is not None and wanted.num_rows:
                self._note(found, wanted)
        for directory, name in gone:  # only now: the listing is a walk over the very tree
            writer.remove(directory, name)
        self.evidence.removed = len(gone)
        if self.mirror.links:
            self._link(writer)
        for table, _ in self._folders:  # some may be missing: somebody removed them meanwhile
            self._each(table, lambda rows, i: writer.directory(rows, i))
        for table, whole in reversed(self._folders):
            self._each(table, lambda rows, i, whole=whole: writer.finish(rows, i, attributes=bool(whole[i])), last=True)
        writer.settle()

    def compare(self) -> None:
        """See that the mirror is what it should be, and keep what was seen. Raises DamagedObject."""
        wrong: list[str] = []
        name = self.run.repository.new_id(self.run.clock())
        seen = rechunk(self._seen(wrong), PIECE_ROWS)
        pieces = save_seen(self.run.repository, self.run.session.id, name, seen)
        if wrong:
            raise DamagedObject(
                f"{len(wrong):,} entries of the mirror are not as they were written: {', '.join(wrong[:5])}",
                hint="something else writes to the mirror: stop it, then clear `copy` (or run the mirror again)",
                paths=wrong[:_NAMED],
            )
        self.evidence.mirror = pieces

    def _seen(self, wrong: list[str]) -> Iterator[pa.Table]:
        for found, wanted in self._windows():
            if wanted is None or not wanted.num_rows:
                continue
            here = found if found is not None else INVENTORY.empty_table()
            at = match(wanted, here)
            state = wanted["state"].to_numpy()
            captured = (state == State.OK) | (state == State.RACY)
            there = at >= 0
            rows, held = wanted.filter(pa.array(there)), here.take(pa.array(at[there]))
            bad = captured.copy()
            bad[there] = captured[there] & ~_same_content(rows, held)
            wrong += [_path(row) for row in wanted.filter(pa.array(bad)).select(["dir", "name"]).to_pylist()]
            if self.mirror.links:
                self.evidence.differing += int((~_same_attributes(rows, held) & captured[there]).sum())
            self.evidence.entries += rows.num_rows
            if held.num_rows:
                yield held.select(INVENTORY.names)

    def _windows(self) -> Iterator[tuple[pa.Table | None, pa.Table | None]]:
        listed = (self._holdable(pa.Table.from_batches([batch])) for batch in self.mirror.entries())
        return aligned(Cursor(listed), Cursor(self._holdable(table) for table in self._wanted()))

    def _wanted(self) -> Iterator[pa.Table]:
        """The rows of the manifest that will be committed, in order."""
        run, self.evidence.only_listed = self.run, 0
        known = run.session.parent
        parent = run.repository.snapshot(known) if known in run.repository.state.snapshots else None
        tables = run.repository.manifest(parent).tables() if parent else iter(())
        changes = final_rows(run, self.diffed, self.copied, Tally(self.diffed.counts, list(self.copied.values())))
        for base, changed in aligned(Cursor(tables), Cursor(changes)):
            table = merge_window(base, [] if changed is None else [changed])
            self.evidence.only_listed += table.num_rows - self._holdable(table).num_rows
            yield table

    def _holdable(self, table: pa.Table) -> pa.Table:
        return holdable(self.mirror, table)

    def _extras(
        self, found: pa.Table | None, wanted: pa.Table | None, moved: set[bytes]
    ) -> Iterator[tuple[bytes, bytes]]:
        """Entries that only the mirror has; `moved` are directories that go with all that is in them."""
        if found is None:
            return
        extra = found if wanted is None else found.filter(pa.array(match(found, wanted) < 0))
        for row in extra.select(["dir", "name", "kind"]).to_pylist():
            path = join_path(row["dir"], row["name"])
            if row["kind"] == Kind.DIRECTORY:
                moved.add(path)
            if row["dir"] not in moved:
                yield row["dir"], row["name"]

    def _note(self, found: pa.Table | None, wanted: pa.Table) -> None:
        """Directories to finish, and files with several names."""
        kind = wanted["kind"].to_numpy()
        here = found if found is not None else INVENTORY.empty_table()
        at = match(wanted, here)
        # A directory nobody could read stays as it was, open to us: what is in it could not be looked at otherwise.
        captured = wanted["state"].to_numpy() <= State.RACY
        folder = (kind == Kind.DIRECTORY) & captured
        if folder.any() and Kind.DIRECTORY in self.mirror.kinds:
            session = wanted["session"].cast(pa.string()).to_numpy(zero_copy_only=False)
            fresh = session == self.run.session.id
            differs = at < 0
            there = np.flatnonzero(~differs)
            rows, held = wanted.take(pa.array(there)), here.take(pa.array(at[there]))
            differs[there] = ~_same_attributes(rows, held)
            chosen = folder & (fresh | differs)
            if chosen.any():
                self._folders.append((wanted.filter(pa.array(chosen)), (fresh | (at < 0))[chosen]))
        several = (
            (kind != Kind.DIRECTORY) & (wanted["nlink"].to_numpy() > 1) & (wanted["state"].to_numpy() <= State.RACY)
        )
        if several.any():
            inode = np.where(at >= 0, here["inode"].to_numpy()[at] if here.num_rows else 0, 0)
            table = wanted.filter(pa.array(several))
            self._linked.append(table.append_column("there", pa.array(inode[several].astype(np.uint64))))

    def _link(self, writer: MirrorWriter) -> None:
        """Make the names of one file names of one file: the first that was there, or else the first, leads."""
        if not self._linked:
            return
        table = pa.concat_tables(self._linked).unify_dictionaries()
        order = np.lexsort((np.arange(table.num_rows), table["inode"].to_numpy(), table["device"].to_numpy()))
        table = table.take(pa.array(order))
        device, inode, there = (table[name].to_numpy() for name in ("device", "inode", "there"))
        first = np.ones(table.num_rows, bool)
        first[1:] = (device[1:] != device[:-1]) | (inode[1:] != inode[:-1])
        leader = np.flatnonzero(first)[np.cumsum(first) - 1]
        apart = np.flatnonzero((there != there[leader]) | (there == 0))
        apart = apart[apart != leader[apart]]
        window = Window(table.drop_columns(["there"]))
        rows = window.rows(np.arange(len(window)), np.zeros(len(window), np.uint8))
        for i in apart.tolist():
            head = int(leader[i])
            writer.link(rows, i, (rows.dir[head], rows.name[head]))
        self.evidence.linked = len(apart)

    def _each(self, table: pa.Table, do: Any, *, last: bool = False) -> None:
        window = Window(table)
        rows = window.rows(np.arange(len(window)), np.zeros(len(window), np.uint8))
        for i in reversed(range(len(rows))) if last else range(len(rows)):
            do(rows, i)


def _same_content(rows: pa.Table, held: pa.Table) -> Any:
    kind = rows["kind"].to_numpy()
    size = (rows["size"].to_numpy() == held["size"].to_numpy()) | (kind != Kind.FILE)
    return size & (kind == held["kind"].to_numpy())


def _same_attributes(rows: pa.Table, held: pa.Table) -> Any:
    return np.logical_and.reduce([rows[name].to_numpy() == held[name].to_numpy() for name in _SEEN])


def _path(row: dict[str, bytes]) -> str:
    return display_path(join_path(row["dir"], row["name"])) or "."
