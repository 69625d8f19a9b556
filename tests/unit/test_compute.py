"""The kernels called by name against `pyarrow.compute`, which they stand in for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pytest

from moraine.model import compute

LEFT, RIGHT = pa.array([3, None, 1, 3], pa.int32()), pa.array([3, 2, None, 1], pa.int32())
TRUTH, DOUBT = pa.array([True, False, True, None]), pa.array([True, True, False, True])
TEXT = pa.array([b"a/b", None, b"//", b""], pa.binary())
LISTS = pa.array([[1, 2], None, [], [3]], pa.list_(pa.int32()))
TABLE = pa.table({"number": LEFT, "text": TEXT})
SET = pa.array([1, 3], pa.int32())

CALLS: list[tuple[str, tuple[Any, ...]]] = [
    ("filter", (TABLE, TRUTH)),
    ("filter", (pa.chunked_array([LEFT]), TRUTH)),
    ("take", (TABLE, pa.array([3, 0, None]))),
    ("take", (TEXT, pa.array([2, 2], pa.int64()))),
    ("index_in", (LEFT, SET)),
    ("is_in", (LEFT, SET)),
    ("unique", (LEFT,)),
    ("drop_null", (LEFT,)),
    ("coalesce", (LEFT, pa.scalar(7, pa.int32()))),
    ("equal", (LEFT, RIGHT)),
    ("not_equal", (LEFT, RIGHT)),
    ("less", (LEFT, RIGHT)),
    ("cast", (LEFT, pa.string())),
    ("cast", (pa.chunked_array([LEFT]), pa.int64())),
    ("array_sort_indices", (TEXT,)),
    ("binary_join_element_wise", (TEXT, TEXT, pa.scalar(b"-", pa.binary()))),
    ("and_", (TRUTH, DOUBT)),
    ("or_", (TRUTH, DOUBT)),
    ("binary_length", (TEXT,)),
    ("match_substring_regex", (TEXT, "[/x]")),
    ("list_parent_indices", (LISTS,)),
    ("invert", (TRUTH,)),
    ("is_valid", (TEXT,)),
    ("is_null", (TEXT,)),
    ("list_flatten", (LISTS,)),
    ("replace_substring", (TEXT, b"/", b"\0")),
]


@pytest.mark.parametrize(("name", "arguments"), CALLS, ids=[f"{name}-{n}" for n, (name, _) in enumerate(CALLS)])
def test_a_kernel_called_by_name_does_what_arrow_has_for_it(name: str, arguments: tuple[Any, ...]) -> None:
    assert getattr(compute, name)(*arguments).equals(getattr(pyarrow.compute, name)(*arguments))


def test_ranks_and_lookups_with_options() -> None:
    assert compute.rank_dense(TEXT).equals(pyarrow.compute.rank(TEXT, tiebreaker="dense"))
    holes = pa.array([None, 3], pa.int32())
    for skip in (False, True):
        expected = pyarrow.compute.index_in(LEFT, value_set=holes, skip_nulls=skip)
        assert compute.index_in(LEFT, value_set=holes, skip_nulls=skip).equals(expected)


def test_a_pattern_in_either_case() -> None:
    text = pa.array([b"A.csv", b"b.CSV", None], pa.binary())
    for ignore in (False, True):
        expected = pyarrow.compute.match_substring_regex(text, "a|csv", ignore_case=ignore)
        assert compute.match_substring_regex(text, "a|csv", ignore_case=ignore).equals(expected)


def test_a_cast_that_would_lose_something_is_refused() -> None:
    with pytest.raises(pa.ArrowInvalid):
        compute.cast(pa.array([300]), pa.uint8())


def test_other_functions_are_arrows_own() -> None:
    assert compute.max is pyarrow.compute.max
    with pytest.raises(AttributeError, match="no_such_function"):
        _ = compute.no_such_function
    assert not hasattr(compute, "__path__")


@pytest.mark.parametrize("kind", ["bool", "int8", "uint8", "int32", "uint32", "int64", "uint64", "float64"])
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1000])
def test_an_array_from_numpy_is_what_arrow_makes(kind: str, count: int) -> None:
    values = (np.arange(2 * count) % 3).astype(kind)
    for some in (values, values[::2], values[1:]):
        made = compute.from_numpy(some)
        made.validate(full=True)
        assert made.equals(pa.array(some))


def test_an_array_from_numpy_is_right_in_any_byte_order_and_has_one_dimension() -> None:
    assert compute.from_numpy(np.array([1, 2], ">u4")).to_pylist() == [1, 2]
    with pytest.raises(ValueError, match="2 dimensions"):
        compute.from_numpy(np.ones((2, 2)))


def test_an_array_shares_the_memory_of_numbers() -> None:
    values = np.arange(4)
    made = compute.from_numpy(values)
    values[0] = 9
    assert made.to_pylist() == [9, 1, 2, 3]
