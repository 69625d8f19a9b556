"""A list of objects on disk, sorted by key: what a bucket answers page by page when it is listed, without the bucket.

For listings that come whole and in an order of their own: all versions, or an inventory. Sorted runs are written and
merged, so memory holds a few runs' batches; the result is mapped, and searched by key. About 150 bytes an object.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from moraine.model import compute as pc
from moraine.sources.s3_client import Listed, Page

OBJECTS = pa.schema(
    [
        pa.field("key", pa.binary(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("at", pa.int64(), nullable=False),  # ms since 1970
        pa.field("etag", pa.string(), nullable=False),
        pa.field("archived", pa.string()),
        pa.field("version", pa.string()),
        pa.field("latest", pa.bool_(), nullable=False),
        pa.field("deleted", pa.bool_(), nullable=False),  # a delete marker
    ]
)
_RUN_ROWS = 1 << 19
_STEP_ROWS = 1 << 12  # of a run, in one round of the merge: a round takes as many of every run
_BATCH_ROWS = 1 << 16
_ORDER = [("key", "ascending"), ("at", "descending"), ("latest", "descending")]


class SortedObjects:
    """Pages of a sorted list (`s3_listing.Pages`), newest version of each key, without what is deleted."""

    def __init__(self, path: Path) -> None:
        """Map what `sort_objects` has written."""
        self._file = pa.ipc.open_file(pa.memory_map(str(path)))
        self._batches: list[pa.RecordBatch] = [
            self._file.get_batch(number) for number in range(self._file.num_record_batches)
        ]
        self._firsts: list[bytes] = [batch.column("key")[0].as_py() for batch in self._batches]
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)]).tolist()

    @property
    def count(self) -> int:
        """How many objects there are."""
        return int(self._starts[-1])

    def page(self, prefix: str, *, delimiter: str = "", token: str | None = None, most: int = 1000) -> Page:
        """As `S3Bucket.page`; a token is the number of a row."""
        begin = prefix.encode()
        at, end = int(token) if token else self._position(begin), self._position(_after(begin))
        if not delimiter:
            stop = min(at + most, end)
            return Page(self._objects(at, stop), [], str(stop) if stop < end else None)
        objects: list[Listed] = []
        prefixes: list[str] = []
        while at < end and (room := most - len(objects) - len(prefixes)):
            plain = self._plain(at, min(at + room, end), prefix.count(delimiter), delimiter.encode())
            if plain:
                objects += self._objects(at, at + plain)
                at += plain
                continue
            key = self._key(at)
            below = key[: key.index(delimiter.encode(), len(begin)) + len(delimiter)]
            prefixes.append(below.decode())
            at = self._position(_after(below))
        return Page(objects, prefixes, str(at) if at < end else None)

    def _position(self, key: bytes | None) -> int:
        """The first row whose key is not before `key`; None is after all."""
        if key is None:
            return self.count
        number = bisect_right(self._firsts, key) - 1
        if number < 0:
            return 0
        keys = self._batches[number].column("key")
        low, high = 0, len(keys)
        while low < high:
            middle = (low + high) // 2
            if keys[middle].as_py() < key:
                low = middle + 1
            else:
                high = middle
        return int(self._starts[number]) + low

    def _plain(self, at: int, stop: int, in_prefix: int, delimiter: bytes) -> int:
        """How many rows from `at` on, within a batch, have no more than `in_prefix` delimiters in their keys."""
        number = bisect_right(self._starts, at) - 1
        keys = self._batches[number].column("key").slice(at - self._starts[number], stop - at)
        hits = np.flatnonzero(pc.count_substring(keys, delimiter).to_numpy(zero_copy_only=False) > in_prefix)
        return int(hits[0]) if len(hits) else len(keys)

    def _key(self, row: int) -> bytes:
        number = bisect_right(self._starts, row) - 1
        key: bytes = self._batches[number].column("key")[row - self._starts[number]].as_py()
        return key

    def _objects(self, at: int, stop: int) -> list[Listed]:
        found: list[Listed] = []
        while at < stop:
            number = bisect_right(self._starts, at) - 1
            rows = self._batches[number].slice(at - self._starts[number], stop - at)
            names = ("key", "size", "at", "etag", "archived", "version")
            columns: list[list[Any]] = [rows.column(name).to_pylist() for name in names]
            found += [Listed(row[0].decode(), row[1], row[2] // 1000, *row[3:]) for row in zip(*columns, strict=True)]
            at += rows.num_rows
        return found


def sort_objects(batches: Iterable[pa.RecordBatch], folder: Path) -> Path:
    """Write OBJECTS batches, in any order, as one sorted file into an empty folder; its path."""
    runs: list[Path] = []
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(piece.num_rows for piece in waiting) >= _RUN_ROWS:
            runs.append(_write(folder / f"run-{len(runs)}", [_newest(pa.Table.from_batches(waiting, OBJECTS))]))
            waiting.clear()
    runs.append(_write(folder / f"run-{len(runs)}", [_newest(pa.Table.from_batches(waiting, OBJECTS))]))
    path = _write(folder / "sorted", (_living(table) for table in _merged(runs)))
    for run in runs:
        run.unlink()
    return path


def _merged(runs: list[Path]) -> Iterator[pa.Table]:
    """The runs as one. A run holds a key once, so all versions of a key meet in one round."""
    streams = [_tables(run) for run in runs]
    current = [next(stream, None) for stream in streams]
    while any(table is not None for table in current):
        limit = min(table["key"][-1].as_py() for table in current if table is not None)
        taken = []
        for number, table in enumerate(current):
            if table is None:
                continue
            cut = int(pc.sum(pc.less_equal(table["key"], pa.scalar(limit, pa.binary()))).as_py())
            taken.append(table.slice(0, cut))
            current[number] = table.slice(cut) if cut < len(table) else next(streams[number], None)
        yield _newest(pa.concat_tables(taken))


def _tables(run: Path) -> Iterator[pa.Table]:
    file = pa.ipc.open_file(pa.memory_map(str(run)))
    for number in range(file.num_record_batches):
        yield pa.Table.from_batches([file.get_batch(number)])


def _newest(table: pa.Table) -> pa.Table:
    """Sorted, one row per key."""
    keys = table["key"]
    if not pc.all(pc.less(keys[:-1], keys[1:])).as_py():
        table = table.take(pc.sort_indices(table, _ORDER))
        keys = table["key"].combine_chunks()
        first = np.ones(len(keys), bool)
        first[1:] = pc.not_equal(keys[1:], keys[:-1]).to_numpy(zero_copy_only=False)
        table = table.filter(pa.array(first))
    return table


def _living(table: pa.Table) -> pa.Table:
    return table.filter(pc.invert(table["deleted"]))


def _write(path: Path, tables: Iterable[pa.Table]) -> Path:
    with pa.ipc.new_file(str(path), OBJECTS) as writer:
        for table in tables:
            for batch in table.combine_chunks().to_batches(_STEP_ROWS):
                if batch.num_rows:
                    writer.write_batch(batch)
    return path


def _after(prefix: bytes) -> bytes | None:
    """The first key that is after all with this prefix; None when there is none."""
    prefix = prefix.rstrip(b"\xff")
    return prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else None


def batches_of(objects: Iterable[Listed]) -> Iterator[pa.RecordBatch]:
    """Objects of a listing as OBJECTS."""
    waiting: list[Listed] = []
    for item in objects:
        waiting.append(item)
        if len(waiting) == _BATCH_ROWS:
            yield _batch(waiting)
            waiting = []
    if waiting:
        yield _batch(waiting)


def _batch(objects: list[Listed]) -> pa.RecordBatch:
    columns = {
        "key": [item.key.encode() for item in objects],
        "size": [item.size for item in objects],
        "at": [item.modified * 1000 for item in objects],
        "etag": [item.etag for item in objects],
        "archived": [item.archived for item in objects],
        "version": [item.version for item in objects],
        "latest": [True] * len(objects),
        "deleted": [False] * len(objects),
    }
    return pa.record_batch([pa.array(columns[field.name], field.type) for field in OBJECTS], schema=OBJECTS)
