"""Sorted rows as streams of Arrow tables: cursors, aligned merging, overlays. No row becomes a Python object.

All tables here hold at least `dir` and `name` and come in manifest order (model.entry). Two streams are walked
together by cutting both at the smaller of their current last keys, so memory is bounded by the size of the tables the
streams deliver, whatever the number of rows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from moraine.model import compute as pc
from moraine.model.entry import row_key

_FEW = 64  # a search among the rows of a table takes about as long as sorting so many


def key_at(table: pa.Table, index: int) -> bytes:
    """The sort key of one row."""
    return row_key(table["dir"][index].as_py(), table["name"][index].as_py())


def row_keys(table: pa.Table) -> pa.Array:
    """The sort keys of all rows, as one binary array."""
    if table.num_rows == 0:
        return pa.array([], pa.binary())
    parts = []
    for batch in table.select(["dir", "name"]).to_batches():
        directory, name = batch.column(0), batch.column(1)
        if pa.types.is_dictionary(directory.type):
            flat = pc.take(pc.replace_substring(directory.dictionary, b"/", b"\0"), directory.indices)
        else:
            flat = pc.replace_substring(directory, b"/", b"\0")
        parts.append(pc.binary_join_element_wise(flat, name, pa.scalar(b"\0\0", pa.binary())))
    return pa.concat_arrays(parts)


def out_of_order(table: pa.Table) -> int | None:
    """The number of the first row that does not come after the one before it; None when all rows do."""
    count = table.num_rows
    if count < 2:
        return None
    directory, name = table["dir"].combine_chunks(), table["name"].combine_chunks()
    keys = pc.replace_substring(directory.dictionary, b"/", b"\0")
    rank = np.asarray(pc.rank_dense(keys)).astype(np.int64)[np.asarray(directory.indices)]
    step = np.diff(rank)
    ascending = np.asarray(pc.less(name.slice(0, count - 1), name.slice(1)))
    wrong = np.flatnonzero((step < 0) | ((step == 0) & ~ascending))
    return int(wrong[0]) + 1 if len(wrong) else None


def position(table: pa.Table, key: bytes, *, after: bool = False) -> int:
    """How many rows come before `key`, or with `after` up to and including it."""
    low, high = 0, table.num_rows
    while low < high:
        middle = (low + high) // 2
        found = key_at(table, middle)
        if found < key or (after and found == key):
            low = middle + 1
        else:
            high = middle
    return low


class Cursor:
    """A stream of sorted tables that can be consumed up to a key."""

    def __init__(self, tables: Iterable[pa.Table]) -> None:
        self._tables = iter(tables)
        self._current: pa.Table | None = None
        self._empty: pa.Table | None = None
        self._advance()

    @property
    def done(self) -> bool:
        """Nothing is left."""
        return self._current is None

    def last_key(self) -> bytes:
        """The key of the last row at hand."""
        assert self._current is not None
        return key_at(self._current, self._current.num_rows - 1)

    def take_through(self, key: bytes) -> pa.Table | None:
        """Rows at hand with keys up to and including `key`; None when there are none."""
        return self._split(key, after=True)

    def take_before(self, key: bytes | None) -> Iterator[pa.Table]:
        """All rows with keys before `key` (all that is left when None), table by table."""
        while self._current is not None:
            if key is None:
                yield self._take_all()
                continue
            piece = self._split(key, after=False)
            if piece is None:
                return
            yield piece

    def take_all(self) -> pa.Table | None:
        """The table at hand; None at the end."""
        return None if self._current is None else self._take_all()

    def _take_all(self) -> pa.Table:
        assert self._current is not None
        piece, self._current = self._current, None
        self._advance()
        return piece

    def _split(self, key: bytes, *, after: bool) -> pa.Table | None:
        if self._current is None:
            return None
        if self.last_key() < key or (after and self.last_key() == key):
            return self._take_all()
        cut = position(self._current, key, after=after)
        if cut == 0:
            return None
        piece, self._current = self._current.slice(0, cut), self._current.slice(cut)
        return piece

    def _advance(self) -> None:
        for table in self._tables:
            if table.num_rows:
                self._current = table
                return


def aligned(left: Cursor, right: Cursor) -> Iterator[tuple[pa.Table | None, pa.Table | None]]:
    """Pairs of tables covering the same key ranges; None where a side has no rows."""
    while not (left.done and right.done):
        if left.done:
            yield None, right.take_all()
        elif right.done:
            yield left.take_all(), None
        else:
            limit = min(left.last_key(), right.last_key())
            yield left.take_through(limit), right.take_through(limit)


def same_names(left: pa.Table, right: pa.Table) -> bool:
    """Whether both tables name the same entries in the same order; cheap when they do."""
    return bool(
        left.num_rows == right.num_rows
        and left["name"].combine_chunks().equals(right["name"].combine_chunks())
        and _same(left["dir"], right["dir"])
    )


def _same(left: pa.ChunkedArray, right: pa.ChunkedArray) -> bool:
    """Whether two columns hold the same values; their dictionaries are matched instead of spelling out every row."""
    here, there = left.combine_chunks(), right.combine_chunks()
    if not (pa.types.is_dictionary(here.type) and pa.types.is_dictionary(there.type)):
        return bool(pc.plain(left).equals(pc.plain(right)))
    codes = pc.index_in(there.dictionary, value_set=here.dictionary)
    return bool(pc.take(codes, there.indices).equals(here.indices))


def match(left: pa.Table, right: pa.Table) -> np.ndarray:
    """For every row of `left` the row number of the same entry in `right`, or -1."""
    if same_names(left, right):
        return np.arange(left.num_rows)
    found = pc.index_in(row_keys(left), value_set=row_keys(right))
    return np.asarray(pc.coalesce(found, pa.scalar(-1, found.type)), dtype=np.int64)


def overlay(tables: list[pa.Table]) -> pa.Table:
    """Sorted tables laid over each other: one row per key, the last table that has it wins; sorted."""
    if len(tables) == 1:
        return tables[0]
    table = pa.concat_tables(tables).unify_dictionaries()
    keys = row_keys(table)
    order = np.asarray(pc.array_sort_indices(keys))  # not stable, so the row number breaks ties below
    ordered = pc.take(keys, pc.from_numpy(order))
    new_group = np.ones(len(order), dtype=bool)
    new_group[1:] = np.asarray(pc.not_equal(ordered[1:], ordered[:-1]).to_numpy(zero_copy_only=False))
    winners = np.maximum.reduceat(order, np.flatnonzero(new_group))
    return pc.take(table, pc.from_numpy(winners))


def lay_over(base: pa.Table, changed: pa.Table) -> pa.Table:
    """Sorted `changed`, one row per key, laid over sorted `base`; quicker than `overlay` where they are few."""
    if changed.num_rows * _FEW > base.num_rows:
        return overlay([base, changed])
    keys = [key_at(changed, row) for row in range(changed.num_rows)]
    directory, name = base["dir"].combine_chunks(), base["name"].combine_chunks()

    def key(row: int) -> bytes:
        return row_key(directory[row].as_py(), name[row].as_py())

    places = np.array([bisect_left(range(base.num_rows), wanted, key=key) for wanted in keys], dtype=np.int64)
    replaced = [place for place, wanted in zip(places, keys, strict=True) if place < len(name) and key(place) == wanted]
    order = np.insert(np.arange(base.num_rows), places, base.num_rows + np.arange(len(keys)))
    kept = np.ones(len(order), dtype=bool)
    kept[np.asarray(replaced, dtype=np.int64) + np.searchsorted(places, replaced, side="right")] = False
    return pc.take(pa.concat_tables([base, changed]).unify_dictionaries(), pc.from_numpy(order[kept]))


def sorted_rows(table: pa.Table) -> pa.Table:
    """The table in manifest order, one row per entry, the last one winning."""
    return overlay([table.slice(0, 0), table])


def rechunk(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of `rows` to twice as many, but for a smaller last one."""
    waiting: list[pa.Table] = []
    count = 0
    for table in tables:
        waiting.append(table)
        count += table.num_rows
        while count >= 2 * rows:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, rows)
            waiting, count = [whole.slice(rows)], count - rows
    if count:
        yield pa.concat_tables(waiting)
