"""Sorted rows: keys, cursors, aligned merging, overlays."""

from __future__ import annotations

from random import Random
from unittest.mock import patch

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from moraine.engine import rows as engine_rows
from moraine.engine.rows import Cursor, aligned, lay_over, match, out_of_order, overlay, position, rechunk, row_keys
from moraine.model.entry import join_path, row_key, split_path
from rows import inventory, paths

NAME = st.binary(min_size=1, max_size=3).filter(lambda n: b"/" not in n and b"\0" not in n)
PATHS = st.sets(st.lists(NAME, min_size=1, max_size=4).map(b"/".join), max_size=30)


def key(path: bytes) -> bytes:
    return row_key(*split_path(path))


@given(PATHS)
def test_keys_of_tables_are_the_keys_of_rows_and_sorted(names: set[bytes]) -> None:
    keys = row_keys(inventory(names)).to_pylist()
    assert keys == sorted(key(name) for name in names)


@given(PATHS, st.randoms(use_true_random=False))
def test_the_first_row_out_of_order_is_found(names: set[bytes], random: Random) -> None:
    table = inventory(names)
    assert out_of_order(table) is None
    rows = list(range(table.num_rows))
    random.shuffle(rows)
    keys = row_keys(table.take(pa.array(rows, pa.int64()))).to_pylist()
    expected = next((n for n in range(1, len(keys)) if keys[n] <= keys[n - 1]), None)
    assert out_of_order(table.take(pa.array(rows, pa.int64()))) == expected


def test_the_same_row_twice_is_out_of_order() -> None:
    table = inventory([b"a", b"a/x", b"b"])
    assert out_of_order(table.take(pa.array([0, 1, 1, 2]))) == 2


def test_order_keeps_directories_together() -> None:
    table = inventory([b"a", b"a-b", b"a/x", b"a/x/y", b"a-b/z", b"a/b", b""])
    assert paths(table) == [b"", b"a", b"a-b", b"a/b", b"a/x", b"a/x/y", b"a-b/z"]


@given(PATHS, PATHS)
def test_aligned_pairs_cover_both_sides_once_and_meet_on_equal_keys(left: set[bytes], right: set[bytes]) -> None:
    a, b = inventory(left), inventory(right)
    seen_left: list[bytes] = []
    seen_right: list[bytes] = []
    for one, two in aligned(Cursor(rechunk([a], 3)), Cursor(rechunk([b], 2))):
        here, there = (paths(t) if t is not None else [] for t in (one, two))
        common = (left & right) & set(here)
        assert common == (left & right) & set(there)
        seen_left += here
        seen_right += there
    assert seen_left == paths(a)
    assert seen_right == paths(b)


@given(PATHS, PATHS)
def test_match_finds_the_same_entry(left: set[bytes], right: set[bytes]) -> None:
    a, b = inventory(left), inventory(right)
    names = paths(b)
    for path, at in zip(paths(a), match(a, b).tolist(), strict=True):
        assert at == (names.index(path) if path in right else -1)


@given(PATHS, PATHS)
def test_overlay_takes_the_last_table_that_has_a_row(old: set[bytes], new: set[bytes]) -> None:
    below = inventory({path: {"size": 1} for path in old})
    above = inventory({path: {"size": 2} for path in new})
    merged = overlay([below, above])
    assert paths(merged) == sorted(old | new, key=key)
    assert merged["size"].to_pylist() == [2 if path in new else 1 for path in paths(merged)]


@given(PATHS, NAME)
def test_position_counts_rows_before_a_key(names: set[bytes], probe: bytes) -> None:
    table = inventory(names)
    assert position(table, key(probe)) == sum(key(name) < key(probe) for name in names)
    assert position(table, key(probe), after=True) == sum(key(name) <= key(probe) for name in names)


@given(PATHS, st.integers(1, 5))
def test_rechunk_keeps_rows_and_bounds_sizes(names: set[bytes], rows: int) -> None:
    table = inventory(names)
    pieces = list(rechunk((table.slice(i, 1) for i in range(table.num_rows)), rows))
    assert [p for piece in pieces for p in paths(piece)] == paths(table)
    assert all(rows <= piece.num_rows < 2 * rows for piece in pieces[:-1])


def test_join_and_split_paths() -> None:
    for path in (b"", b"a", b"a/b", b"a/b/c"):
        assert join_path(*split_path(path)) == path


@given(PATHS, PATHS)
def test_laying_few_rows_over_many_is_an_overlay(old: set[bytes], new: set[bytes]) -> None:
    below = inventory({path: {"size": 1} for path in old})
    above = inventory({path: {"size": 2} for path in new})
    with patch.object(engine_rows, "_FEW", 0):
        merged = lay_over(below, above)
    assert paths(merged) == sorted(old | new, key=key)
    assert merged["size"].to_pylist() == [2 if path in new else 1 for path in paths(merged)]
