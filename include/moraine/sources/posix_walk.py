"""The walk over a POSIX tree. Knows descriptors, the rules of a policy and rows; nothing of runs or stores.

Iterative and relative to descriptors, so neither depth nor the length of a path is limited. In memory: one batch, and
the names of the directories still to enter. Whoever puts the rows of a directory of more than a batch in order
(`posix_columns`) holds all of them, about 250 bytes each.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator
from itertools import islice
from operator import attrgetter
from types import TracebackType
from typing import Self

from moraine.model.entry import join_path
from moraine.sources.base import ListShard
from moraine.sources.descent import TO_LIST, Descent
from moraine.sources.excludes import ExcludeRules
from moraine.sources.markers import find_marker
from moraine.sources.os_errors import OUT_OF_DESCRIPTORS, UNLINKED, source_error
from moraine.sources.posix_rows import InventoryRows, PackedRows, Subdirectory

BATCH = 1 << 16
_PROBE = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_by_name = attrgetter("name")


ELSEWHERE = -1  # the row of a directory that another shard delivers


class Walk:
    """One walk over the directories of one shard. Close it, or use it in a `with` statement.

    A shard is a range in manifest order: the rows of all directories from `roots[0]` up to, but without,
    `stop_at[0]`. A directory that appears between planning and walking falls into exactly one range.
    """

    def __init__(
        self, root: bytes, excludes: ExcludeRules, *, one_file_system: bool = False, shard: ListShard | None = None
    ) -> None:
        """Open the root of the tree; without a shard, the walk is over everything."""
        try:
            self._descent = Descent(root, TO_LIST)
        except OSError as error:
            raise source_error(error, root, "list") from error
        self._found = os.fstat(self._descent.enter(b""))
        self._excludes = excludes
        self._larger_than = sys.maxsize if excludes.larger_than is None else excludes.larger_than
        self._one_file_system = one_file_system
        self._start = _key(shard.roots[0]) if shard else b""
        self._end = _key(shard.stop_at[0]) if shard and shard.stop_at else None
        self._rows = InventoryRows()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the directories that are open."""
        self._descent.close()

    def pieces(self) -> Iterator[PackedRows]:
        """The rows in manifest order, a piece at a time; those of a large directory are not yet in order."""
        if not self._start:
            self._rows.add_root(self._found)
        directory, row = b"", ELSEWHERE
        waiting: list[tuple[bytes, list[tuple[bytes, int]]]] = []
        while True:
            below = yield from self._directory(directory, row)
            if below:
                waiting.append((directory, below))
            if not waiting:
                break
            parent, names = waiting[-1]
            name, row = names.pop()
            directory = join_path(parent, name)
            if not names:
                waiting.pop()
        yield from self._flush()

    def subdirectories(self, directory: bytes) -> list[bytes]:
        """Names of the directories that the walk enters from this one, in order; none when it cannot be read."""
        try:
            fd = self._descent.enter(directory)
            with os.scandir(fd) as scan:
                found = [e.name for e in self._chosen(directory, fd, list(scan)) if e.is_dir(follow_symlinks=False)]
            if self._one_file_system:
                found = [n for n in found if os.stat(n, dir_fd=fd, follow_symlinks=False).st_dev == self._found.st_dev]
        except OSError:
            return []
        return sorted(map(os.fsencode, found))

    def _directory(self, directory: bytes, row: int) -> Generator[PackedRows, None, list[tuple[bytes, int]]]:
        """Add the entries of one directory.

        Returns:
            (name, row) of the directories to enter from there, the first one last.
        """
        if self._start and _key(directory) < self._start:  # on the way to the start of the range
            return [(n, ELSEWHERE) for n in reversed(self.subdirectories(directory)) if self._reaches(directory, n)]
        try:
            fd = self._descent.enter(directory)
        except OSError as error:
            self._not_entered(error, directory, row)
            return []
        try:
            with os.scandir(fd) as scan:
                entries = list(islice(scan, BATCH))
        except OSError as error:
            self._not_read(error, directory, row)
            return []
        if len(entries) == BATCH:
            del entries
            return (yield from self._large(directory, fd))
        if len(self._rows) + len(entries) > BATCH:
            yield from self._flush()
        entries.sort(key=_by_name)
        below = self._rows.add(directory, self._chosen(directory, fd, entries), self._larger_than)
        return self._to_enter(directory, fd, below) if below else []

    def _large(self, directory: bytes, fd: int) -> Generator[PackedRows, None, list[tuple[bytes, int]]]:
        """As `_directory`, for a batch of entries and more: read piece by piece, to be sorted by who takes them."""
        yield from self._flush()
        waiting: list[tuple[bytes, int]] = []
        try:
            with os.scandir(fd) as scan:
                while entries := list(islice(scan, BATCH)):
                    below = self._rows.add(directory, self._chosen(directory, fd, entries), self._larger_than)
                    waiting += self._to_enter(directory, fd, below)
                    yield self._rows.take(more=True)
                    entries.clear()  # each holds its stat result
        except OSError as error:
            raise source_error(error, directory, "list") from error
        yield self._rows.take()  # nothing: it ends them
        waiting.sort(reverse=True)
        return waiting

    def _chosen(self, directory: bytes, fd: int, entries: list[os.DirEntry[str]]) -> list[os.DirEntry[str]]:
        """Entries that no marker file and no pattern leaves out."""
        rules = self._excludes
        if rules.markers and (marker := find_marker(fd, rules.markers)):
            entries = [entry for entry in entries if os.fsencode(entry.name) == marker.name]
        if rules.patterns and (excluded := rules.matcher.within(directory)):
            entries = [entry for entry in entries if not excluded(entry.name, _is_directory(entry))]
        return entries

    def _to_enter(self, directory: bytes, fd: int, below: list[Subdirectory]) -> list[tuple[bytes, int]]:
        """(name, row) of subdirectories to enter, backwards; one that cannot be opened is marked in its row."""
        chosen = []
        for name, row, device in below:
            if self._one_file_system and device != self._found.st_dev:
                continue
            encoded = os.fsencode(name)
            try:
                os.close(os.open(name, _PROBE, dir_fd=fd))
            except OSError as error:
                self._not_entered(error, join_path(directory, encoded), row)
                continue
            if self._end is None or self._reaches(directory, encoded):
                chosen.append((encoded, row))
        chosen.sort(reverse=True)
        return chosen

    def _reaches(self, parent: bytes, name: bytes) -> bool:
        """Whether the subtree of a directory has a part in the range."""
        key = _key(join_path(parent, name))
        return (self._end is None or key < self._end) and (key >= self._start or self._start.startswith(key + b"\0"))

    def _not_entered(self, error: OSError, directory: bytes, row: int) -> None:
        """Say in its row that a directory cannot be opened; where the row is elsewhere, it is said there."""
        if directory and (error.errno in UNLINKED or (row == ELSEWHERE and error.errno not in OUT_OF_DESCRIPTORS)):
            return
        self._not_read(error, directory, row)

    def _not_read(self, error: OSError, directory: bytes, row: int) -> None:
        """Say in its row that a directory cannot be read; else fail: absent rows must not look like deletions."""
        if error.errno in OUT_OF_DESCRIPTORS or not self._rows.deny(row):
            raise source_error(error, directory, "list") from error

    def _flush(self) -> Iterator[PackedRows]:
        if len(self._rows):
            yield self._rows.take()


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:  # its row will say so
        return False


def _key(directory: bytes) -> bytes:
    """Directories in plain order of their keys are in manifest order."""
    return directory.replace(b"/", b"\0")
