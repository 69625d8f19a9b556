"""Rows of a listing, packed by `posix_rows`, as INVENTORY batches. Knows Arrow, nothing of walks or system calls."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from moraine.model import compute as pc
from moraine.model.entry import Kind, State
from moraine.model.schemas import INVENTORY
from moraine.sources.posix_rows import PackedRows

_FIELDS = np.dtype(
    [
        ("mode", "<i8"), ("inode", "<u8"), ("device", "<u8"), ("nlink", "<i8"), ("uid", "<i8"), ("gid", "<i8"),
        ("size", "<i8"), ("atime", "<i8"), ("mtime", "<i8"), ("ctime", "<i8"), ("mtime_ns", "<i8"), ("ctime_ns", "<i8"),
    ]
)  # fmt: skip
_KINDS = np.zeros(16, np.uint8)
for _mode, _kind in (
    (stat.S_IFREG, Kind.FILE), (stat.S_IFDIR, Kind.DIRECTORY), (stat.S_IFLNK, Kind.SYMLINK), (stat.S_IFIFO, Kind.FIFO),
    (stat.S_IFCHR, Kind.CHARACTER_DEVICE), (stat.S_IFBLK, Kind.BLOCK_DEVICE), (stat.S_IFSOCK, Kind.SOCKET),
):  # fmt: skip
    _KINDS[_mode >> 12] = _kind
_BILLION = 1_000_000_000


def to_batches(pieces: Iterable[PackedRows], rows: int) -> Iterator[pa.RecordBatch]:
    """The pieces of a walk as batches in manifest order; those of a large directory have `rows` rows."""
    together: list[pa.RecordBatch] = []
    for piece in pieces:
        batch = _to_batch(piece) if piece.names else None
        if piece.more:
            together += [batch] if batch else []
            continue
        if together:
            yield from in_order(together, rows)
        if batch:
            yield batch if piece.ordered else _sorted(batch)


def _to_batch(rows: PackedRows) -> pa.RecordBatch:
    found = np.frombuffer(rows.stats, _FIELDS)
    names = _name_array(rows.names, len(found))
    state = np.zeros(len(found), np.uint8)
    state[rows.denied] = State.DENIED
    rdev = np.zeros(len(found), np.uint64)
    rdev[list(rows.rdev)] = list(rows.rdev.values())
    counts = [end - start for start, end in pairwise([*rows.starts, len(found)])]
    indices = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    directory = pa.DictionaryArray.from_arrays(pc.from_numpy(indices), pa.array(rows.directories, pa.binary()))
    numbers = _stat_columns(found) | {"rdev": rdev, "state": state}
    columns = {name: _numbers(values, INVENTORY.field(name).type) for name, values in numbers.items()}
    columns |= {"dir": directory, "name": names}
    return pa.record_batch([columns[name] for name in INVENTORY.names], schema=INVENTORY)


def _sorted(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Rows of directories that are in order, put in order of their names."""
    keys = list(zip(batch.column("dir").indices.to_pylist(), batch.column("name").to_pylist(), strict=True))
    return batch.take(pa.array(sorted(range(len(keys)), key=keys.__getitem__)))


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
    """A column of that type, if it can be over the memory of `values`."""
    return pc.from_numpy(np.asarray(values, kind.to_pandas_dtype()))


def _name_array(names: bytes, count: int) -> pa.Array:
    ends = np.flatnonzero(np.frombuffer(names, np.uint8) == 0)
    offsets = np.concatenate([[0], ends - np.arange(len(ends))]).astype(np.int32)
    data = pa.py_buffer(names.replace(b"\0", b""))
    return pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), data])
