"""Paths of whole columns: joined from directory and name, and made safe to print."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from moraine.model import compute as pc
from moraine.model.entry import display_path


def join_paths(table: pa.Table) -> pa.ChunkedArray:
    """The whole path of every row."""
    directory = table["dir"].cast(pa.binary())
    joined = pc.binary_join_element_wise(directory, table["name"], pa.scalar(b"/", pa.binary()))
    return pc.if_else(pc.equal(directory, b""), table["name"], joined)


def display_column(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Paths as text that is safe to print; like `display_path`, but plain ASCII is not looked at one by one."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        return display_column(column.dictionary).take(column.indices)
    odd = np.flatnonzero(
        pc.match_substring_regex(column, r"[^\x20-\x7e]").fill_null(False).to_numpy(zero_copy_only=False)
    )
    if not len(odd):
        return column.cast(pa.string())
    mask = np.zeros(len(column), dtype=bool)
    mask[odd] = True
    shown = pa.array([display_path(value) for value in column.take(pa.array(odd)).to_pylist()], pa.string())
    safe = pc.if_else(pa.array(mask), pa.scalar(b"", pa.binary()), column).cast(pa.string())
    return pc.replace_with_mask(safe, pa.array(mask), shown)
