"""Stat results as INVENTORY batches. Knows `os.DirEntry` and Arrow, nothing of walks, rules or descriptors.

A row is packed into bytes as soon as it is seen and the columns are made from the bytes a batch at a time, so that
an entry costs some hundred nanoseconds and no object of it lives on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from itertools import pairwise
from struct import Struct
from struct import error as StructError
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from moraine.model.entry import Kind, State
from moraine.model.schemas import INVENTORY
from moraine.sources.os_errors import UNLINKED

# The ten integers a stat result unpacks to, then mtime and ctime in ns.
_ROW = Struct("<qQQqqqqqqqqq")
_FIELDS = np.dtype(
    [
        ("mode", "<i8"), ("inode", "<u8"), ("device", "<u8"), ("nlink", "<i8"), ("uid", "<i8"), ("gid", "<i8"),
        ("size", "<i8"), ("atime", "<i8"), ("mtime", "<i8"), ("ctime", "<i8"), ("mtime_ns", "<i8"), ("ctime_ns", "<i8"),
    ]
)  # fmt: skip
_REGULAR, _DIRECTORY, _SYMLINK, _CHARACTER, _BLOCK = 0o10, 0o4, 0o12, 0o2, 0o6  # st_mode >> 12
_KINDS = np.zeros(16, np.uint8)
_KINDS[[_REGULAR, _DIRECTORY, _SYMLINK, 0o1, _CHARACTER, _BLOCK, 0o14]] = [
    Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.FIFO, Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE, Kind.SOCKET,
]  # fmt: skip
_BILLION = 1_000_000_000
_UTF8 = sys.getfilesystemencoding() == "utf-8"


class Subdirectory(NamedTuple):
    """A directory among the entries added, and the number of its row."""

    name: str
    row: int
    device: int


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

    def take(self) -> pa.RecordBatch:
        """All rows added since the last time."""
        found = np.frombuffer(bytes(self._packed), _FIELDS)
        names, ordered = _name_array(self._names)
        state = np.zeros(len(found), np.uint8)
        state[self._denied] = State.DENIED
        rdev = np.zeros(len(found), np.uint64)
        rdev[list(self._rdev)] = list(self._rdev.values())
        counts = [end - start for start, end in pairwise([*self._starts, len(found)])]
        indices = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        directory = pa.DictionaryArray.from_arrays(
            _numbers(indices, pa.int32()), pa.array(self._directories, pa.binary())
        )
        numbers = _stat_columns(found) | {"rdev": rdev, "state": state}
        columns = {name: _numbers(values, INVENTORY.field(name).type) for name, values in numbers.items()}
        columns |= {"dir": directory, "name": names}
        batch = pa.record_batch([columns[name] for name in INVENTORY.names], schema=INVENTORY)
        if not ordered:
            keys = list(zip(indices.tolist(), names.to_pylist(), strict=True))
            batch = batch.take(pa.array(sorted(range(len(keys)), key=keys.__getitem__)))
        self.taken += len(found)
        self._clear()
        return batch


def in_order(batches: list[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of a single directory, each in itself in any order, as batches of `rows` rows in order of all names.

    Empties `batches`, to hold the rows no longer than needed.
    """
    directory, schema = batches[0].column("dir").dictionary[:1], batches[0].schema
    table = pa.Table.from_batches(batches).drop_columns("dir")
    batches.clear()
    order = pc.sort_indices(table["name"])
    for start in range(0, len(order), rows):
        part = table.take(order.slice(start, rows)).combine_chunks()
        indices = pa.array(np.zeros(len(part), np.int32))
        yield from (
            part.add_column(0, INVENTORY.field("dir"), pa.DictionaryArray.from_arrays(indices, directory))
            .cast(schema)
            .to_batches()
        )


def _stat_columns(found: npt.NDArray[np.void]) -> dict[str, npt.NDArray[np.generic]]:
    mode = found["mode"]
    kind = _KINDS[mode >> 12]
    return {
        "kind": kind,
        "size": np.where(kind == Kind.FILE, found["size"], 0),
        "mode": (mode & 0o7777).astype(np.uint32),
        "uid": found["uid"].astype(np.uint32),
        "gid": found["gid"].astype(np.uint32),
        "mtime": found["mtime"].copy(),
        "mtime_ns": (found["mtime_ns"] - found["mtime"] * _BILLION).astype(np.int32),
        "ctime": found["ctime"].copy(),
        "ctime_ns": (found["ctime_ns"] - found["ctime"] * _BILLION).astype(np.int32),
        "inode": found["inode"].copy(),
        "device": found["device"].copy(),
        "nlink": found["nlink"].astype(np.uint32),
    }


def _numbers(values: npt.NDArray[np.generic], kind: pa.DataType) -> pa.Array:
    """A column over the memory of `values`: `pyarrow.array` would load NumPy's masked arrays to look for one."""
    exact = np.ascontiguousarray(values, kind.to_pandas_dtype())
    return pa.Array.from_buffers(kind, len(exact), [None, pa.py_buffer(exact)])


def _name_array(names: list[str]) -> tuple[pa.Array, bool]:
    """Names as bytes, and whether the order of the text is that of the bytes."""
    text = "\0".join(names)
    try:
        joined, ordered = text.encode(), _UTF8
        if not _UTF8:
            joined = os.fsencode(text)
    except UnicodeEncodeError:  # bytes that are no UTF-8 stand in the text as surrogates, which sort elsewhere
        joined, ordered = os.fsencode(text), False
    ends = np.flatnonzero(np.frombuffer(joined + b"\0", np.uint8) == 0)
    offsets = np.concatenate([[0], ends - np.arange(len(ends))]).astype(np.int32)
    data = pa.py_buffer(joined.replace(b"\0", b""))
    return pa.Array.from_buffers(pa.binary(), len(names), [None, pa.py_buffer(offsets), data]), ordered


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
