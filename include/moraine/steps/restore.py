"""execute a restore plan: directories first, then content in the order of packs, then links, attributes last.

Interrupted at any point, the same restore planned and executed again goes on: what is complete has its time, which is
set last, and is passed over. Nothing of the target that is replaced goes before its successor is complete.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from moraine.model import compute as pc
from moraine.model.entry import Kind
from moraine.model.progress import NoProgress, Progress
from moraine.model.record import dataclass
from moraine.repository.repository import Repository
from moraine.sources.target import Code, Notes, Target, TargetWriter, Verdict
from moraine.steps.restore_content import ContentWriter
from moraine.steps.restore_judge import LINK, WRITTEN, Verdicts
from moraine.steps.restore_plan import RestorePlan, planned
from moraine.steps.restore_rows import CONTENT, Numbers, Window, distinct

if TYPE_CHECKING:
    from moraine.steps.mirror_content import MirrorContent

BATCH_ROWS = 1 << 20  # files whose content is read together: each frame is read once for so many
_FINISHED = (Verdict.CREATE, Verdict.REPLACE, Verdict.MERGE, Verdict.STAY)


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did. `exit_code`: 0 all of it, 3 something is not as the snapshot has it, 50 content is lost."""

    snapshot: str
    target: str
    files: int
    directories: int
    others: int
    links: int
    refreshed: int
    deleted: int
    bytes: int  # stored bytes written
    skipped: dict[str, int]  # entries that were not touched, by action of the plan
    warnings: list[dict[str, Any]]  # code, path, message; at most a thousand of each code
    warning_counts: dict[str, int]
    exit_code: int
    verified: int = 0  # files read again and compared


def execute_restore(
    plan: RestorePlan,
    repository: Repository,
    target: Target,
    *,
    owners: str = "id",
    verify: bool = False,
    progress: Progress | None = None,
    processes: int = 1,
) -> Restored:
    """Do what a plan says.

    Args:
        plan: made by `plan_restore` for this target.
        repository: where the content is.
        target: where to.
        owners: `id` or `name` of the snapshot's owners (root only), or `keep` the restoring user's.
        verify: read every file again afterwards, also those that were in place, and compare its digest.
        progress: told of files and bytes.
        processes: how many may be forked to share the work. More than one only where the caller knows of no threads:
            it is done alone all the same when some of ours are alive, or store or target do not survive a fork.

    Raises:
        TargetFull: no space is left; run it again when there is.
        UnsafePath: something put a link in the way while the restore ran.
        RestoreError: the target is read-only or fails.
    """
    progress = progress or NoProgress()
    with target.writer(owners=owners) as writer:
        writer.notes.take(plan.notes)
        _Execution(plan, repository, writer, progress, processes).run()
    notes = writer.notes
    verified = 0
    if verify:
        from moraine.steps.restore_verify import verify_plan

        verified = verify_plan(plan, repository, target, notes, progress)
    return Restored(
        snapshot=plan.snapshot.id,
        target=target.url,
        **writer.counts,
        skipped={action: plan.counts[action] for action in ("nothing", "keep", "conflict", "absent")},
        warnings=notes.to_list(),
        warning_counts=notes.counts,
        exit_code=_exit_code(notes),
        verified=verified,
    )


class _Execution:
    """One run of a plan."""

    def __init__(
        self, plan: RestorePlan, repository: Repository, writer: TargetWriter, progress: Progress, processes: int
    ) -> None:
        self._plan = plan
        self._repository = repository
        self._writer = writer
        self._progress = progress
        self._several = distinct(plan.links)  # rows that are, or lead, further names of a file
        self._content: ContentWriter | MirrorContent = ContentWriter(repository, writer, progress, processes)
        if repository.mirror:
            from moraine.steps.mirror_content import MirrorContent

            self._content = MirrorContent(repository, repository.mirror, writer, progress, plan.snapshot.captured_at)
        self._waiting: list[tuple[pa.Table, Verdicts]] = []
        self._folders: list[tuple[Window, Verdicts]] = []
        self._names: list[tuple[Window, Verdicts, Numbers]] = []  # of files with several: window, verdicts, row numbers

    def run(self) -> None:
        """All of it."""
        self._progress.start("restore", self._plan.write_files, self._plan.write_bytes)
        if self._plan.write_files and not self._repository.mirror:
            self._repository.index.ahead()
        first = 0
        for window, verdicts in planned(self._plan, self._repository, CONTENT):
            self._begin(window, verdicts, first)
            first += len(window)
            if sum(table.num_rows for table, _ in self._waiting) >= BATCH_ROWS:
                self._write_content()
        self._write_content()
        self._link()
        for extra in self._plan.extras:
            self._writer.remove(extra)
        self._finish()
        self._progress.finish("restore")

    def _begin(self, window: Window, verdicts: Verdicts, first: int) -> None:
        """Directories and everything that has no content; files wait until there are enough."""
        folder = window.kind == Kind.DIRECTORY
        file = window.kind == Kind.FILE
        made = folder & np.isin(verdicts, _FINISHED)
        if made.any():
            part = (window.take(made), verdicts[made])
            self._folders.append(part)
            self._writer.directories(part[0].rows(np.arange(len(part[0])), part[1]))
        nodes = np.flatnonzero(~folder & ~file & np.isin(verdicts, WRITTEN))
        if len(nodes):
            self._writer.nodes(window.rows(nodes, verdicts))
        stale = np.flatnonzero(~folder & (verdicts == Verdict.REFRESH))
        if len(stale):
            self._writer.refresh(window.rows(stale, verdicts))
        content = file & np.isin(verdicts, WRITTEN)
        if content.any():
            self._waiting.append((pc.filter(window.table, pc.from_numpy(content)), verdicts[content]))
        several = self._several[slice(*np.searchsorted(self._several, (first, first + len(window))))] - first
        if len(several):
            self._names.append((window.take(several), verdicts[several] & ~LINK, first + several))

    def _write_content(self) -> None:
        if self._waiting:
            tables, verdicts = zip(*self._waiting, strict=True)
            self._waiting = []
            self._content.write(Window(pa.concat_tables(tables)), np.concatenate(verdicts))

    def _link(self) -> None:
        if not self._names:
            return
        window = Window(pa.concat_tables([part.table for part, _, _ in self._names]))
        verdicts = np.concatenate([verdicts for _, verdicts, _ in self._names])
        numbers = np.concatenate([numbers for _, _, numbers in self._names])
        further = np.searchsorted(numbers, self._plan.links[:, 0])
        leaders = np.searchsorted(numbers, self._plan.links[:, 1])
        heads = window.rows(leaders, verdicts)
        self._writer.links(window.rows(further, verdicts), list(zip(heads.dir, heads.name, strict=True)))

    def _finish(self) -> None:
        for window, verdicts in reversed(self._folders):
            self._writer.finish(window.rows(np.arange(len(window))[::-1].copy(), verdicts))


def _exit_code(notes: Notes) -> int:
    if Code.DAMAGED in notes.counts:
        return 50
    return 3 if notes.incomplete() else 0
