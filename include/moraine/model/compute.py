"""Arrow's compute functions, without what `pyarrow.compute` costs a short run.

When that module is loaded it writes a Python function with a page of documentation for each of 300 kernels: a tenth of
a night in which little has changed. What such a night needs calls its kernel by name here, with the meaning and the
defaults it has there; any other function is looked up there when it is first used. Methods of arrays and tables that
compute (`take`, `filter`, `cast`, `fill_null` …) load it too, and `pyarrow.array` of a NumPy array loads NumPy's masked
arrays: on the way of such a night the functions below stand in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow._compute import (
    CastOptions,
    MatchSubstringOptions,
    RankOptions,
    ReplaceSubstringOptions,
    SetLookupOptions,
    call_function,
)

from moraine.model import arrow  # noqa: F401  (without it the first kernel would load pandas)


def __getattr__(name: str) -> Any:
    if name.startswith("__"):  # asked of every module
        raise AttributeError(name)
    import pyarrow.compute

    found = globals()[name] = getattr(pyarrow.compute, name)
    return found


def from_numpy(values: npt.NDArray[Any]) -> pa.Array:
    """An array without nulls over the memory of a row of numbers in this machine's byte order; else of a copy."""
    if values.ndim != 1:
        raise ValueError(f"an array of {values.ndim} dimensions is no column")
    if values.dtype == np.bool_:
        bits = np.packbits(values, bitorder="little")
        return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(bits)])
    flat = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    return pa.Array.from_buffers(pa.from_numpy_dtype(flat.dtype), len(flat), [None, pa.py_buffer(flat)])


def plain(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The values of a column in one piece, without a dictionary: `to_pylist` of one is tens of times slower."""
    flat = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return take(flat.dictionary, flat.indices) if pa.types.is_dictionary(flat.type) else flat


def filter(data: Any, mask: Any) -> Any:
    """The rows of an array or a table where the mask is true."""
    return call_function("filter", [data, mask])


def take(data: Any, numbers: Any) -> Any:
    """The rows of an array or a table with these numbers."""
    return call_function("take", [data, numbers])


def index_in(values: Any, value_set: Any, *, skip_nulls: bool = False) -> Any:
    """Where each value stands in a set, or null."""
    return call_function("index_in", [values], SetLookupOptions(value_set=value_set, skip_nulls=skip_nulls))


def cast(values: Any, target_type: pa.DataType) -> Any:
    """The values as another type, which has to hold all of them."""
    return call_function("cast", [values], CastOptions.safe(target_type))


def array_sort_indices(values: Any) -> Any:
    """The numbers of the values in ascending order; of equal ones in any."""
    return call_function("array_sort_indices", [values])


def unique(values: Any) -> Any:
    """Each value once, in order of appearance."""
    return call_function("unique", [values])


def drop_null(values: Any) -> Any:
    """The values that are there."""
    return call_function("drop_null", [values])


def coalesce(*values: Any) -> Any:
    """Row by row the first value that is there."""
    return call_function("coalesce", list(values))


def equal(left: Any, right: Any) -> Any:
    """Row by row whether both are the same; null where one is missing."""
    return call_function("equal", [left, right])


def not_equal(left: Any, right: Any) -> Any:
    """Row by row whether they differ; null where one is missing."""
    return call_function("not_equal", [left, right])


def less(left: Any, right: Any) -> Any:
    """Row by row whether the left is smaller; null where one is missing."""
    return call_function("less", [left, right])


def and_(left: Any, right: Any) -> Any:
    """Row by row whether both are true; null where one is missing."""
    return call_function("and", [left, right])


def or_(left: Any, right: Any) -> Any:
    """Row by row whether one of both is true; null where one is missing."""
    return call_function("or", [left, right])


def is_in(values: Any, value_set: Any) -> Any:
    """Row by row whether a set has the value."""
    return call_function("is_in", [values], SetLookupOptions(value_set=value_set))


def invert(values: Any) -> Any:
    """Row by row the opposite; null where there is no value."""
    return call_function("invert", [values])


def is_valid(values: Any) -> Any:
    """Row by row whether there is a value."""
    return call_function("is_valid", [values])


def is_null(values: Any) -> Any:
    """Row by row whether there is none."""
    return call_function("is_null", [values])


def binary_join_element_wise(*values: Any) -> Any:
    """Row by row the first values with the last between them; null where one is missing."""
    return call_function("binary_join_element_wise", list(values))


def rank_dense(values: Any) -> Any:
    """The place of each value among the different ones, from 1."""
    return call_function("rank", [values], RankOptions(tiebreaker="dense"))


def binary_length(values: Any) -> Any:
    """Row by row the number of bytes."""
    return call_function("binary_length", [values])


def match_substring_regex(texts: Any, pattern: str, *, ignore_case: bool = False) -> Any:
    """Row by row whether a regular expression is found somewhere in the text."""
    return call_function("match_substring_regex", [texts], MatchSubstringOptions(pattern, ignore_case=ignore_case))


def replace_substring(texts: Any, pattern: bytes, replacement: bytes) -> Any:
    """Texts with every occurrence of a pattern replaced."""
    return call_function("replace_substring", [texts], ReplaceSubstringOptions(pattern, replacement))


def list_parent_indices(lists: Any) -> Any:
    """For each element of all lists the number of its list."""
    return call_function("list_parent_indices", [lists])


def list_flatten(lists: Any) -> Any:
    """The elements of all lists, one after another."""
    return call_function("list_flatten", [lists])
