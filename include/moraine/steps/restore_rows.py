"""Rows of a snapshot on their way to a target: checked names, columns as arrays, lists a frame at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from moraine.engine.selection import Selection
from moraine.errors import UnsafePath
from moraine.model import compute as pc
from moraine.model.entry import Kind, display_path, join_path
from moraine.repository.manifest import Manifest
from moraine.sources.target import Rows

Numbers = npt.NDArray[np.int64]

NAMES = ("dir", "name", "kind")
STAT = (*NAMES, "size", "mode", "uid", "gid", "mtime", "mtime_ns", "inode", "device", "nlink", "rdev", "state")
ATTRIBUTES = (*STAT, "owner", "group", "target", "xattrs", "extents", "digest")
CONTENT = (*ATTRIBUTES, "chunks")

_NULLABLE = ("owner", "group", "target", "xattrs", "extents", "digest")
_BILLION = 10**9
_FORBIDDEN = pa.array([b".", b".."], pa.binary())


class Window:
    """Some rows of a manifest, in order. Making one checks that no name leads outside. Raises UnsafePath."""

    def __init__(self, table: pa.Table) -> None:
        directories = table["dir"]
        if not pa.types.is_dictionary(directories.type):
            table = table.set_column(table.schema.get_field_index("dir"), "dir", directories.dictionary_encode())
        self.table = table.unify_dictionaries().combine_chunks()
        column = flat(self.table["dir"])
        self.directories: list[bytes] = column.dictionary.to_pylist()
        self.number: npt.NDArray[np.int32] = np.asarray(column.indices)
        self.names = flat(self.table["name"])
        self.kind = self.column("kind")
        self._check()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def column(self, name: str) -> npt.NDArray[Any]:
        """A column without nulls."""
        return np.asarray(flat(self.table[name]))

    def valid(self, name: str) -> npt.NDArray[np.bool_]:
        """Where a column is not null."""
        return np.asarray(pc.is_valid(flat(self.table[name])))

    def take(self, rows: npt.NDArray[np.bool_] | Numbers) -> Window:
        """Some of the rows."""
        chosen = pc.from_numpy(rows)
        return Window((pc.filter if rows.dtype == np.bool_ else pc.take)(self.table, chosen))

    def path(self, row: int) -> bytes:
        """The path of one row."""
        return join_path(self.directories[self.number[row]], self.names[row].as_py())

    def runs(self) -> Iterator[tuple[bytes, int, int]]:
        """(directory, first row, row after the last) of neighbours in one directory."""
        borders = np.flatnonzero(np.diff(self.number)) + 1
        starts = [0, *borders.tolist()] if len(self) else []
        for start, end in zip(starts, [*starts[1:], len(self)], strict=True):
            yield self.directories[self.number[start]], start, end

    def rows(self, rows: Numbers, verdicts: npt.NDArray[np.uint8]) -> Rows:
        """Rows by number as parallel lists; `verdicts` is of all rows of the window."""
        count = len(rows)
        seconds, ns = self._mtime[rows].tolist(), self._mtime_ns[rows].tolist()
        numbers: dict[str, Any] = {name: column[rows].tolist() for name, column in self._numbers.items()}
        chosen = pc.from_numpy(rows)
        other: dict[str, Any] = {
            name: [None] * count if column is None else _to_list(column, chosen)
            for name, column in self._others.items()
        }
        return Rows(
            dir=[self.directories[number] for number in self.number[rows].tolist()],
            name=pc.take(self.names, chosen).to_pylist(),
            verdict=verdicts[rows].tolist(),
            time=[second * _BILLION + part for second, part in zip(seconds, ns, strict=True)],
            **numbers,
            **other,
        )

    @cached_property
    def _numbers(self) -> dict[str, npt.NDArray[Any]]:
        return {name: self.column(name) for name in ("kind", "size", "mode", "uid", "gid", "rdev", "inode")}

    @cached_property
    def _others(self) -> dict[str, pa.Array | None]:
        columns = {name: flat(self.table[name]) for name in _NULLABLE}
        return {name: None if column.null_count == len(column) else column for name, column in columns.items()}

    @cached_property
    def _mtime(self) -> npt.NDArray[Any]:
        return self.column("mtime")

    @cached_property
    def _mtime_ns(self) -> npt.NDArray[Any]:
        return self.column("mtime_ns")

    def _check(self) -> None:
        for directory in self.directories:
            if directory and (b"\0" in directory or not {b"", b".", b".."}.isdisjoint(directory.split(b"/"))):
                raise _unsafe(directory)
        bad = pc.or_(pc.match_substring_regex(self.names, r"[/\x00]"), pc.is_in(self.names, value_set=_FORBIDDEN))
        empty = np.asarray(pc.equal(pc.binary_length(self.names), 0))
        bad = np.asarray(bad) | (empty & (self.kind != Kind.DIRECTORY))
        for row in np.flatnonzero(bad | empty).tolist():
            if bad[row] or self.directories[self.number[row]]:
                raise _unsafe(join_path(self.directories[self.number[row]], self.names[row].as_py()))


def distinct(numbers: npt.NDArray[np.signedinteger]) -> Numbers:
    """Each number once, in ascending order. Counted, as `np.unique` alone would load NumPy's masked arrays."""
    found: Numbers = np.unique(numbers, return_counts=True)[0].astype(np.int64)
    return found


def stored_sizes(window: Window) -> Numbers:
    """The sizes of files without their holes."""
    sizes: Numbers = window.column("size").astype(np.int64)
    for row in np.flatnonzero(window.valid("extents")).tolist():
        extents = window.table["extents"][row].as_py()
        sizes[row] = np.frombuffer(extents[: len(extents) // 16 * 16], "<i8")[1::2].sum()
    return sizes


def windows(manifest: Manifest, selection: Selection, columns: Sequence[str]) -> Iterator[Window]:
    """Every row that may matter for a selection, in order: what `under` holds, and before it the directories above."""
    if selection.under:
        above = list(_above(manifest, selection.under, columns))
        if above:
            yield Window(pa.concat_tables(above))
    for table in manifest.tables(columns, under=selection.under or None):
        yield Window(table)


def _above(manifest: Manifest, path: bytes, columns: Sequence[str]) -> Iterator[pa.Table]:
    names = path.split(b"/")
    for depth in range(len(names)):
        directory = b"/".join(names[:depth])
        for table in manifest.tables(columns, under=directory):
            first = table.slice(0, 1)
            if Window(first).path(0) == directory:
                yield first
            break


def flat(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column in one piece; a dictionary stays one."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _to_list(column: pa.Array, chosen: pa.Array) -> list[Any]:
    if not pa.types.is_dictionary(column.type):
        return list(pc.take(column, chosen).to_pylist())
    values = [*column.dictionary.to_pylist(), None]
    numbers = pc.coalesce(pc.take(column.indices, chosen), pa.scalar(len(values) - 1, column.indices.type))
    return [values[number] for number in numbers.to_pylist()]


def _unsafe(path: bytes) -> UnsafePath:
    return UnsafePath(
        f"the snapshot names {display_path(path)!r}, which could lead outside the target",
        hint="no version of Moraine writes such a name: somebody forged it; restore nothing from this snapshot",
        path=path,
    )
