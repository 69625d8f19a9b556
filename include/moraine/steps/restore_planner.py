"""The pass over a manifest that makes a restore plan. Looks at the target through its reader; writes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from moraine.engine.selection import Mask, Selection
from moraine.errors import RestoreError
from moraine.model import compute as pc
from moraine.model.entry import Kind, State
from moraine.repository.manifest import Manifest
from moraine.sources.target import (
    FOUND,
    LOOKED_FOR,
    SAMPLES,
    Beside,
    Code,
    Extra,
    Notes,
    TargetFacts,
    TargetReader,
    Verdict,
)
from moraine.steps.restore_judge import (
    HERE,
    LINK,
    REASONS,
    WRITTEN,
    Overwrite,
    Verdicts,
    judge,
    judge_directory,
    uncaptured,
)
from moraine.steps.restore_rows import ATTRIBUTES, NAMES, Numbers, Window, distinct, stored_sizes, windows

_COMPARED = ["kind", "mode", "mtime", "mtime_ns", "xattrs"]


class Planner:
    """Run it once; then it has the parts of a plan.

    Memory: a few bytes for each row, and the paths of directories that are in the target or on the way to something.
    """

    def __init__(
        self, manifest: Manifest, selection: Selection, rule: Overwrite, *, delete: bool, facts: TargetFacts
    ) -> None:
        self._manifest = manifest
        self._selection = selection
        self._rule = rule
        self._delete = delete
        self._facts = facts
        self._compared = [name for name in _COMPARED if facts.xattrs or name != "xattrs"]
        self._compared += ["uid", "gid"] * facts.owners
        self._needed: set[bytes] = set()  # directories on the way to what is asked for
        self._there: dict[bytes, bool] = {}  # directories of the target, and whether a restore left them unfinished
        self._blocked: set[bytes] = set()  # directories that something is in the way of
        self._childless: set[bytes] = set()  # directories in which nothing was met yet, if that matters
        self._rows = 0
        self._counts = np.zeros(len(Verdict), np.int64)
        self._linked: list[npt.NDArray[np.int64]] = []  # row, device, inode, size, verdict of files with several names
        self.notes = Notes()
        self.extras: list[Extra] = []
        self.verdicts: list[Verdicts] = []
        self.links = np.empty((0, 2), np.int64)
        self.selected = self.write_files = self.write_bytes = 0  # selected: what is no directory

    def run(self, reader: TargetReader | None) -> None:
        """Make the plan; without a reader the target is empty."""
        if not self._selection.everything:
            self._find_needed()
        gone = reader.beside(self._selection) if reader and self._delete else None
        if reader:
            self._there[b""] = False
        for window in windows(self._manifest, self._selection, ATTRIBUTES):
            self.verdicts.append(self._window(window, reader, gone))
            self._rows += len(window)
        for directory in sorted(self._childless):
            self.notes.add(Code.EMPTY, directory, "is empty: a bucket holds it only with --directory-markers")
        self._lead()
        if gone:
            self.extras = gone.extras(self._there)

    def counts(self) -> dict[str, int]:
        """Entries by what happens to them, and what would be deleted."""
        counts: dict[str, int] = {}
        for verdict, (action, _) in REASONS.items():
            counts[action] = counts.get(action, 0) + int(self._counts[verdict])
        return {**counts, "delete": sum(extra.entries for extra in self.extras)}

    def _find_needed(self) -> None:
        matched = False
        for window in windows(self._manifest, self._selection, NAMES):
            chosen = self._selection.mask(window.directories, window.number, window.names)
            matched |= bool(chosen.any())
            for number in distinct(window.number[chosen]).tolist():
                directory = window.directories[number]
                while directory not in self._needed:
                    self._needed.add(directory)
                    directory = directory.rpartition(b"/")[0]
        if not matched:
            raise RestoreError(
                "nothing in the snapshot matches what was asked for",
                hint="globs start at the snapshot's root: `docs`, `docs/*.pdf`, or `**/*.pdf` for any depth",
            )

    def _window(self, window: Window, reader: TargetReader | None, gone: Beside | None) -> Verdicts:
        chosen = self._selection.mask(window.directories, window.number, window.names)
        wanted = chosen.copy()
        for row in np.flatnonzero((window.kind == Kind.DIRECTORY) & ~chosen).tolist() if self._needed else ():
            wanted[row] = window.path(row) in self._needed
        verdicts = np.where(wanted, Verdict.CREATE, Verdict.UNSELECTED).astype(np.uint8)
        if reader:
            self._compare(window, chosen, wanted, verdicts, reader, gone)
        if not self._facts.directories:
            self._imply(window, chosen, verdicts)
        self._leave_out(window, verdicts)
        self._count(window, verdicts)
        return verdicts

    def _imply(self, window: Window, chosen: Mask, verdicts: Verdicts) -> None:
        """Where paths alone make directories, there is nothing to do for them, and empty ones cannot be."""
        folder = window.kind == Kind.DIRECTORY
        verdicts[folder & (verdicts == Verdict.CREATE)] = Verdict.PASS
        self._childless.update(window.path(row) for row in np.flatnonzero(folder & chosen).tolist())
        self._childless.difference_update(directory for directory, _, _ in window.runs())

    def _leave_out(self, window: Window, verdicts: Verdicts) -> None:
        """What there is nothing to make from, and what could only be made in part."""
        meant = ~np.isin(verdicts, (Verdict.UNSELECTED, Verdict.CONFLICT))
        absent = uncaptured(window) & meant
        verdicts[absent] = Verdict.ABSENT
        state = window.column("state")
        partial = np.isin(state, (State.DENIED, State.VANISHED)) & (window.kind == Kind.DIRECTORY) & meant & ~absent
        self._note(window, absent, Code.ABSENT, "could not be read when the snapshot was taken: not restored")
        self._note(window, partial, Code.ABSENT, "what is in it could not be read when the snapshot was taken")
        blocked = verdicts == Verdict.CONFLICT
        self._note(window, blocked, Code.CONFLICT, "something in its way may not be removed: not restored")

    def _compare(
        self, window: Window, chosen: Mask, wanted: Mask, verdicts: Verdicts, reader: TargetReader, gone: Beside | None
    ) -> None:
        folder = window.kind == Kind.DIRECTORY
        waiting: dict[bool, list[tuple[Numbers, pa.RecordBatch]]] = {False: [], True: []}
        for directory, start, end in window.runs():
            rows = start + np.flatnonzero(wanted[start:end])
            if directory in self._blocked:
                verdicts[rows] = Verdict.CONFLICT
                self._blocked.update(window.path(row) for row in rows[folder[rows]].tolist())
            if directory not in self._there:
                continue
            if gone:
                gone.known(directory, window.names[start:end].to_pylist(), window.kind[start:end].tolist())
            found = reader.look(directory, pc.take(window.table.select(LOOKED_FOR), pc.from_numpy(rows)))
            for at in np.flatnonzero(folder[rows]).tolist():
                row = int(rows[at])
                verdicts[row] = self._directory(window, row, found.slice(at, 1).to_pylist()[0], asked=bool(chosen[row]))
            others = np.flatnonzero(~folder[rows])
            if len(others):
                waiting[self._there[directory]].append((rows[others], pc.take(found, pc.from_numpy(others))))
        for unfinished, parts in waiting.items():
            if parts:
                rows = np.concatenate([rows for rows, _ in parts])
                table = pa.Table.from_batches([batch for _, batch in parts], FOUND).combine_chunks()
                # What an interrupted restore made and left is not there by anybody's wish.
                rule = Overwrite.IF_CHANGED if unfinished else self._rule
                verdicts[rows] = judge(window, rows, table, rule, delete=self._delete, facts=self._facts)

    def _directory(self, window: Window, row: int, found: dict[str, Any], *, asked: bool) -> Verdict:
        path = window.path(row)
        here = window.table.select(self._compared).slice(row, 1).to_pylist()[0]
        if not self._facts.directories:
            if found["kind"]:
                self._there[path] = False
            return Verdict.PASS
        if found["kind"] and found["mode"] is None:
            self._there[path] = False
            return Verdict.PASS
        newer = bool(found["kind"]) and (here["mtime"], here["mtime_ns"]) > (found["mtime"], found["mtime_ns"])
        same = all(here[name] == found[name] for name in self._compared)
        unfinished = bool(found["unfinished"])
        verdict = judge_directory(found["kind"], self._rule, unfinished=unfinished, newer=newer, same=same, asked=asked)
        if verdict == Verdict.CONFLICT:
            self._blocked.add(path)
        elif verdict in (Verdict.MERGE, Verdict.STAY, Verdict.PASS):
            self._there[path] = unfinished
        return verdict

    def _count(self, window: Window, verdicts: Verdicts) -> None:
        self.selected += int(np.count_nonzero((window.kind != Kind.DIRECTORY) & (verdicts != Verdict.UNSELECTED)))
        self._counts += np.bincount(verdicts, minlength=len(Verdict))
        file = window.kind == Kind.FILE
        size = stored_sizes(window)
        written = file & np.isin(verdicts, WRITTEN)
        self.write_files += int(np.count_nonzero(written))
        self.write_bytes += int(size[written].sum())
        named_again = (window.kind != Kind.DIRECTORY) & (window.column("nlink") > 1)
        several = np.flatnonzero(named_again & np.isin(verdicts, HERE))
        if len(several):
            columns = [
                column[several].astype(np.int64) for column in (window.column("device"), window.column("inode"), size)
            ]
            self._linked.append(np.column_stack([self._rows + several, *columns, verdicts[several].astype(np.int64)]))

    def _lead(self) -> None:
        """Of the rows that are one file, the first that the target has leads, else the first; others link to it."""
        if not self._linked:
            return
        table = np.concatenate(self._linked)
        missing = np.isin(table[:, 4], WRITTEN)
        table = table[np.lexsort((table[:, 0], missing, table[:, 2], table[:, 1]))]
        first = np.ones(len(table), bool)
        first[1:] = (table[1:, 1:3] != table[:-1, 1:3]).any(axis=1)
        leader = table[np.flatnonzero(first)[np.cumsum(first) - 1], 0]
        further = table[~first]
        self.links = np.column_stack([further[:, 0], leader[~first]])
        self.links = self.links[np.lexsort((self.links[:, 0], self.links[:, 1]))]
        written = np.isin(further[:, 4], WRITTEN)
        self.write_files -= int(np.count_nonzero(written))
        self.write_bytes -= int(further[written, 3].sum())
        starts = np.cumsum([0, *map(len, self.verdicts)])
        part = np.searchsorted(starts, further[:, 0], side="right") - 1
        for number in distinct(part).tolist():
            self.verdicts[number][further[part == number, 0] - starts[number]] |= LINK

    def _note(self, window: Window, rows: Mask, code: str, message: str) -> None:
        numbers = np.flatnonzero(rows)
        for row in numbers[:SAMPLES].tolist():
            self.notes.add(code, window.path(row), message)
        if len(numbers) > SAMPLES:
            self.notes.counts[code] += len(numbers) - SAMPLES
