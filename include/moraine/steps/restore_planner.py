"""The pass over a manifest that makes a restore plan. Looks at the target through its reader; writes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from moraine.engine.selection import Mask, Selection
from moraine.errors import RestoreError
from moraine.model.entry import Kind, State, join_path
from moraine.repository.manifest import Manifest
from moraine.sources.target import FOUND, SAMPLES, Code, Extra, Notes, TargetReader, Verdict
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
from moraine.steps.restore_rows import ATTRIBUTES, NAMES, Numbers, Window, stored_sizes, windows

_COMPARED = ["kind", "mode", "mtime", "mtime_ns", "xattrs", "uid", "gid"]
_LOST_FOUND = b"lost+found"  # at the top: the file system's own


class Planner:
    """Run it once; then it has the parts of a plan.

    Memory: a few bytes for each row, and the paths of directories that are in the target or on the way to something.
    """

    def __init__(
        self, manifest: Manifest, selection: Selection, rule: Overwrite, *, delete: bool, owners: bool
    ) -> None:
        self._manifest = manifest
        self._selection = selection
        self._rule = rule
        self._delete = delete
        self._owners = owners
        self._needed: set[bytes] = set()  # directories on the way to what is asked for
        self._there: dict[bytes, bool] = {}  # directories of the target, and whether a restore left them unfinished
        self._blocked: set[bytes] = set()  # directories that something is in the way of
        self._rows = 0
        self._counts = np.zeros(len(Verdict), np.int64)
        self._linked: list[npt.NDArray[np.int64]] = []  # row, device, inode, size, verdict of files with several names
        self.notes = Notes()
        self.extras: list[Extra] = []
        self.verdicts: list[Verdicts] = []
        self.links = np.empty((0, 2), np.int64)
        self.write_files = self.write_bytes = 0

    def run(self, reader: TargetReader | None) -> None:
        """Make the plan; without a reader the target is empty."""
        if not self._selection.everything:
            self._find_needed()
        gone = _Extras(self._selection, reader) if reader and self._delete else None
        if reader:
            self._there[b""] = False
        for window in windows(self._manifest, self._selection, ATTRIBUTES):
            self.verdicts.append(self._window(window, reader, gone))
            self._rows += len(window)
        self._lead()
        if gone:
            self.extras = gone.found(self._there)

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
            for number in np.unique(window.number[chosen]).tolist():
                directory = window.directories[number]
                while directory not in self._needed:
                    self._needed.add(directory)
                    directory = directory.rpartition(b"/")[0]
        if not matched:
            raise RestoreError(
                "nothing in the snapshot matches what was asked for",
                hint="globs start at the snapshot's root: `docs`, `docs/*.pdf`, or `**/*.pdf` for any depth",
            )

    def _window(self, window: Window, reader: TargetReader | None, gone: _Extras | None) -> Verdicts:
        chosen = self._selection.mask(window.directories, window.number, window.names)
        wanted = chosen.copy()
        for row in np.flatnonzero((window.kind == Kind.DIRECTORY) & ~chosen).tolist() if self._needed else ():
            wanted[row] = window.path(row) in self._needed
        verdicts = np.where(wanted, Verdict.CREATE, Verdict.UNSELECTED).astype(np.uint8)
        if reader:
            self._compare(window, chosen, wanted, verdicts, reader, gone)
        self._leave_out(window, verdicts)
        self._count(window, verdicts)
        return verdicts

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
        self, window: Window, chosen: Mask, wanted: Mask, verdicts: Verdicts, reader: TargetReader, gone: _Extras | None
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
                gone.names_of(directory, window.names[start:end])
            found = reader.look(directory, window.names.take(pa.array(rows)).to_pylist())
            for at in np.flatnonzero(folder[rows]).tolist():
                row = int(rows[at])
                verdicts[row] = self._directory(window, row, found.slice(at, 1).to_pylist()[0], asked=bool(chosen[row]))
            others = np.flatnonzero(~folder[rows])
            if len(others):
                waiting[self._there[directory]].append((rows[others], found.take(pa.array(others))))
        for unfinished, parts in waiting.items():
            if parts:
                rows = np.concatenate([rows for rows, _ in parts])
                table = pa.Table.from_batches([batch for _, batch in parts], FOUND).combine_chunks()
                # What an interrupted restore made and left is not there by anybody's wish.
                rule = Overwrite.IF_CHANGED if unfinished else self._rule
                verdicts[rows] = judge(window, rows, table, rule, delete=self._delete, owners=self._owners)

    def _directory(self, window: Window, row: int, found: dict[str, Any], *, asked: bool) -> Verdict:
        path = window.path(row)
        here = window.table.select(_COMPARED).slice(row, 1).to_pylist()[0]
        newer = bool(found["kind"]) and (here["mtime"], here["mtime_ns"]) > (found["mtime"], found["mtime_ns"])
        same = all(here[name] == found[name] for name in (_COMPARED if self._owners else _COMPARED[:-2]))
        unfinished = bool(found["unfinished"])
        verdict = judge_directory(found["kind"], self._rule, unfinished=unfinished, newer=newer, same=same, asked=asked)
        if verdict == Verdict.CONFLICT:
            self._blocked.add(path)
        elif verdict in (Verdict.MERGE, Verdict.STAY, Verdict.PASS):
            self._there[path] = unfinished
        return verdict

    def _count(self, window: Window, verdicts: Verdicts) -> None:
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
        for number in np.unique(part).tolist():
            self.verdicts[number][further[part == number, 0] - starts[number]] |= LINK

    def _note(self, window: Window, rows: Mask, code: str, message: str) -> None:
        numbers = np.flatnonzero(rows)
        for row in numbers[:SAMPLES].tolist():
            self.notes.add(code, window.path(row), message)
        if len(numbers) > SAMPLES:
            self.notes.counts[code] += len(numbers) - SAMPLES


class _Extras:
    """Finds what the target has and the snapshot has not, directory by directory in manifest order."""

    def __init__(self, selection: Selection, reader: TargetReader) -> None:
        self._selection = selection
        self._reader = reader
        self._directory: bytes | None = None
        self._left: set[bytes] = set()
        self._listed: set[bytes] = set()
        self._found: list[Extra] = []

    def names_of(self, directory: bytes, names: pa.Array) -> None:
        """Some names that the snapshot has in a directory of the target."""
        if directory != self._directory:
            self._end()
            self._directory = directory
            self._listed.add(directory)
            self._left = set(self._names(directory))
        if self._left:
            self._left.difference_update(names.to_pylist())

    def found(self, there: Iterable[bytes]) -> list[Extra]:
        """All extras; `there` are all directories that both have: some have no entry in the snapshot."""
        self._end()
        for directory in there:
            if directory not in self._listed:
                self._directory, self._left = directory, set(self._names(directory))
                self._end()
        return self._found

    def _names(self, directory: bytes) -> list[bytes]:
        if not self._selection.covers(directory):
            return []
        return [n for n in self._reader.names(directory) if directory or n != _LOST_FOUND]

    def _end(self) -> None:
        for name in sorted(self._left):
            assert self._directory is not None
            if not self._selection.excludes(join_path(self._directory, name)):
                self._found.append(self._reader.weigh(self._directory, name))
        self._left = set()
