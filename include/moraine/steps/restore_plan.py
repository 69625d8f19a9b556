"""plan a restore: what would be created, overwritten, kept and deleted, and why. Writes nothing.

A plan is one byte for each row of the manifest, which never changes, so it is small at any size of tree; the rows are
read again when it is shown or executed. A dry run is a plan that is not executed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from moraine.engine.selection import Selection, select
from moraine.errors import ConfigError, RestoreError
from moraine.model.entry import display_path, join_path
from moraine.model.record import dataclass
from moraine.model.snapshot import Snapshot
from moraine.repository.repository import Repository
from moraine.sources.target import Extra, Notes, Target, Verdict
from moraine.steps.restore_judge import LINK, REASONS, Overwrite, Verdicts
from moraine.steps.restore_planner import Planner
from moraine.steps.restore_rows import NAMES, Window, windows


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """What a restore would do. `counts` are entries by action; bytes are without the holes of sparse files."""

    snapshot: Snapshot
    target: str
    selection: Selection
    overwrite: Overwrite
    delete: bool
    counts: dict[str, int]
    write_files: int
    write_bytes: int
    delete_bytes: int
    free: int | None  # bytes free in the target
    notes: Notes  # what cannot be restored as it was
    extras: tuple[Extra, ...]  # what `delete` removes; a directory stands for all that is in it
    verdicts: tuple[Verdicts, ...]  # one byte for each row, window by window
    links: npt.NDArray[np.int64]  # (row, row that leads) of further names of one file; sorted by leader

    @property
    def enough_space(self) -> bool:
        """Whether the target seems to have room; what is overwritten is not counted as freed."""
        return self.free is None or self.write_bytes <= self.free

    def rows(self, repository: Repository) -> Iterator[pa.Table]:
        """Every selected row with what happens to it and why: dir, name, kind, size, action, reason."""
        actions = pa.array([_shown(verdict)[0] for verdict in Verdict])
        reasons = pa.array([_shown(verdict)[1] for verdict in Verdict])
        for window, verdicts in planned(self, repository, (*NAMES, "size")):
            plain = verdicts & ~LINK
            chosen = pa.array(plain != Verdict.UNSELECTED)
            numbers = pa.array(plain).cast(pa.int32())
            table = window.table.select(["dir", "name", "kind", "size"])
            table = table.append_column("action", pa.DictionaryArray.from_arrays(numbers, actions))
            yield table.append_column("reason", pa.DictionaryArray.from_arrays(numbers, reasons)).filter(chosen)

    def to_dict(self) -> dict[str, Any]:
        """JSON form, without the rows."""
        return {
            "snapshot": self.snapshot.id,
            "target": self.target,
            "overwrite": str(self.overwrite),
            "counts": self.counts,
            "write_files": self.write_files,
            "write_bytes": self.write_bytes,
            "delete_bytes": self.delete_bytes,
            "free": self.free,
            "enough_space": self.enough_space,
            "links": len(self.links),
            "extras": [display_path(join_path(extra.dir, extra.name)) for extra in self.extras],
            "notes": self.notes.to_list(),
            "note_counts": self.notes.counts,
        }


def plan_restore(
    repository: Repository,
    snapshot: Snapshot,
    *,
    target: Target,
    include: Sequence[str | bytes] = (),
    exclude: Sequence[str | bytes] = (),
    paths: Iterable[bytes] | None = None,
    overwrite: Overwrite | str = Overwrite.IF_CHANGED,
    delete: bool = False,
) -> RestorePlan:
    """Compare a snapshot with a target.

    Args:
        repository: where the snapshot is.
        snapshot: what to restore.
        target: where to; the tree will stand right in it as it stood in the source.
        include: globs relative to the root (see `engine.selection`); none mean everything.
        exclude: globs of what to leave out; what of that is in the target stays.
        paths: instead of globs, exactly these entries.
        overwrite: what happens to entries that are in the target: `always`; `if-changed`, when size or time differ;
            `if-newer`, when the snapshot's is newer; `never`.
        delete: remove what the target has and the snapshot has not, inside what was asked for.

    Raises:
        ConfigError: a glob or rule is bad, or `delete` would go beyond what the globs mean.
        RestoreError: nothing matches, the target cannot be looked at, or `delete` would only delete.
        UnsafePath: the snapshot names paths that lead outside.
    """
    selection, rule = select(include, exclude, paths), _rule(overwrite)
    if delete:
        _require_subtrees(selection)
    facts = target.probe()
    planner = Planner(repository.manifest(snapshot), selection, rule, delete=delete, facts=facts)
    with target.reader() if facts.exists and not facts.empty else nullcontext() as reader:
        planner.run(reader)
    if planner.extras and not planner.selected:
        raise RestoreError(
            "the snapshot holds no file of what was asked for: delete would leave nothing in the target",
            hint="look at it with `moraine ls`; if the target is to be empty, empty it by hand",
        )
    return _plan(planner, snapshot, target.url, selection, rule, delete, facts.free)


def planned(plan: RestorePlan, repository: Repository, columns: Sequence[str]) -> Iterator[tuple[Window, Verdicts]]:
    """The manifest's windows with their verdicts. Raises RestoreError when the plan is not of this manifest."""
    verdicts = iter(plan.verdicts)
    for window in windows(repository.manifest(plan.snapshot), plan.selection, columns):
        found = next(verdicts, None)
        if found is None or len(found) != len(window):
            raise RestoreError("the plan does not fit the snapshot's manifest", hint="plan the restore again")
        yield window, found


def _plan(
    planner: Planner,
    snapshot: Snapshot,
    target: str,
    selection: Selection,
    rule: Overwrite,
    delete: bool,
    free: int | None,
) -> RestorePlan:
    return RestorePlan(
        snapshot=snapshot,
        target=target,
        selection=selection,
        overwrite=rule,
        delete=delete,
        counts=planner.counts(),
        write_files=planner.write_files,
        write_bytes=planner.write_bytes,
        delete_bytes=sum(extra.bytes for extra in planner.extras),
        free=free,
        notes=planner.notes,
        extras=tuple(planner.extras),
        verdicts=tuple(planner.verdicts),
        links=planner.links,
    )


def _require_subtrees(selection: Selection) -> None:
    if not selection.subtrees:
        raise ConfigError(
            "delete with these globs could remove more than is meant",
            hint="name whole directories without wildcards, or restore without delete",
        )


def _rule(overwrite: Overwrite | str) -> Overwrite:
    try:
        return Overwrite(overwrite)
    except ValueError as error:
        known = ", ".join(Overwrite)
        raise ConfigError(f"overwrite: {overwrite!r} is none of {known}", hint="if-changed is the default") from error


def _shown(verdict: Verdict) -> tuple[str, str]:
    return REASONS.get(verdict, ("", ""))
