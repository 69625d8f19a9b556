"""Stat results, packed into bytes as soon as they are seen. Knows `os.DirEntry`, nothing of walks or rules.

`posix_columns` makes columns of the bytes a batch at a time, so that an entry costs some hundred nanoseconds and no
object of it lives on. What gathers the rows loads neither NumPy nor Arrow: it may run before they are there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from struct import Struct
from struct import error as StructError
from typing import NamedTuple

from moraine.sources.os_errors import UNLINKED

# The ten integers a stat result unpacks to, then mtime and ctime in ns.
_ROW = Struct("<qQQqqqqqqqqq")
_REGULAR, _DIRECTORY, _SYMLINK, _CHARACTER, _BLOCK = 0o10, 0o4, 0o12, 0o2, 0o6  # st_mode >> 12
_UTF8 = sys.getfilesystemencoding() == "utf-8"


class Subdirectory(NamedTuple):
    """A directory among the entries added, and the number of its row."""

    name: str
    row: int
    device: int


class PackedRows(NamedTuple):
    """Rows that belong to one batch."""

    stats: bytes  # `_ROW` each
    names: bytes  # each ended by NUL
    directories: list[bytes]
    starts: list[int]  # the first row of each directory
    rdev: dict[int, int]  # row → device number
    denied: list[int]  # rows that cannot be read
    ordered: bool  # the order they were added in is that of their names as bytes; says nothing where `more` is set
    more: bool  # of one directory, whose rows have to be put in order together; one without this ends them


class InventoryRows:
    """Rows on their way to a batch: add entries in manifest order, then take them."""

    def __init__(self) -> None:
        """Begin with no rows."""
        self.taken = 0  # rows that have left; the number of a row counts from the first ever added
        self._clear()

    def _clear(self) -> None:
        self._packed = bytearray()
        self._names: list[str] = []
        self._directories: list[bytes] = []
        self._starts: list[int] = []  # the first row of each directory
        self._rdev: dict[int, int] = {}
        self._denied: list[int] = []

    def __len__(self) -> int:
        return len(self._names)

    def add_root(self, found: os.stat_result) -> None:
        """Add the row of the root itself."""
        self._directories.append(b"")
        self._starts.append(len(self._names))
        self._packed += _pack(found)
        self._names.append("")

    def add(
        self, directory: bytes, entries: Iterable[os.DirEntry[str]], larger_than: int = sys.maxsize
    ) -> list[Subdirectory]:
        """Add entries of one directory, in order of their names.

        What has gone meanwhile, and regular files of more than `larger_than` bytes, are left out.

        Returns:
            The directories among them.
        """
        first = len(self._names)
        below: list[Subdirectory] = []
        packed, names, row = self._packed, self._names, _ROW.pack
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
                kind = found[0] >> 12
                if found[6] > larger_than and kind == _REGULAR:
                    continue
                packed += row(*found, found.st_mtime_ns, found.st_ctime_ns)
            except StructError:
                packed += _pack(found)
            except OSError as error:
                if error.errno in UNLINKED:
                    continue
                self._denied.append(len(names))
                packed += row(_kind_unseen(entry) << 12, entry.inode(), *bytes(10))
                kind = _REGULAR
            if kind != _REGULAR:
                if kind == _DIRECTORY:
                    below.append(Subdirectory(entry.name, self.taken + len(names), found.st_dev))
                elif kind in (_CHARACTER, _BLOCK):
                    self._rdev[len(names)] = found.st_rdev
            names.append(entry.name)
        if len(names) > first:
            self._directories.append(directory)
            self._starts.append(first)
        return below

    def deny(self, row: int) -> bool:
        """Mark a row as unreadable; False when it has left already."""
        if row < self.taken:
            return False
        self._denied.append(row - self.taken)
        return True

    def take(self, *, more: bool = False) -> PackedRows:
        """All rows added since the last time."""
        names, ordered = _joined(self._names)
        taken = PackedRows(
            bytes(self._packed), names, self._directories, self._starts, self._rdev, self._denied, ordered, more
        )
        self.taken += len(self._names)
        self._clear()
        return taken


def _joined(names: list[str]) -> tuple[bytes, bool]:
    """Names as bytes, each ended by NUL, and whether the order of the text is that of the bytes."""
    text = "\0".join([*names, ""])
    try:
        joined, ordered = text.encode(), _UTF8
        if not _UTF8:
            joined = os.fsencode(text)
    except UnicodeEncodeError:  # bytes that are no UTF-8 stand in the text as surrogates, which sort elsewhere
        joined, ordered = os.fsencode(text), False
    return joined, ordered


def _pack(found: os.stat_result) -> bytes:
    """A row as bytes. Times in ns beyond int64 (the year 2262) are wrapped, as arithmetic on int64 unwraps them."""
    ns = ((at + (1 << 63) & (1 << 64) - 1) - (1 << 63) for at in (found.st_mtime_ns, found.st_ctime_ns))
    return _ROW.pack(*found, *ns)


def _kind_unseen(entry: os.DirEntry[str]) -> int:
    """What the directory itself says of an entry that cannot be looked at."""
    try:
        if entry.is_symlink():
            return _SYMLINK
        return _DIRECTORY if entry.is_dir(follow_symlinks=False) else _REGULAR
    except OSError:
        return _REGULAR
