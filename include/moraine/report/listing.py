"""What stands in a snapshot: the children of a directory, or a whole subtree, in manifest order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from moraine.errors import ConfigError
from moraine.model import compute as pc
from moraine.model.entry import Kind, display_path, split_path
from moraine.report.columns import display_column, join_paths
from moraine.report.entries import COLUMNS, Entry, iter_entries
from moraine.repository.manifest import Manifest

NAMES = ("dir", "name", "kind")


def list_entries(manifest: Manifest, under: bytes = b"", *, recursive: bool = False) -> Iterator[Entry]:
    """The entries below a directory (not itself), or the one entry when `under` is none. Raises ConfigError."""
    return iter_entries(list_rows(manifest, COLUMNS, under, recursive=recursive))


def list_names(manifest: Manifest, under: bytes = b"", *, recursive: bool = False) -> Iterator[list[str]]:
    """The same as displayed paths, directories with a slash, many at a time. Raises ConfigError."""
    for table in list_rows(manifest, NAMES, under, recursive=recursive):
        ends = pc.if_else(pc.equal(table["kind"], int(Kind.DIRECTORY)), "/", "")
        shown = pa.chunked_array([display_column(join_paths(table))])
        yield pc.binary_join_element_wise(shown, ends, "").to_pylist()


def list_rows(
    manifest: Manifest, columns: Sequence[str], under: bytes = b"", *, recursive: bool = False
) -> Iterator[pa.Table]:
    """The rows of these entries; `columns` holds at least `NAMES`.

    Raises:
        ConfigError: the snapshot holds no such path.
    """
    directory, name = split_path(under)
    found = False
    for table in manifest.tables(columns, under):
        itself = pc.and_(_equal(table["dir"], directory), pc.equal(table["name"], name))
        alone = table.filter(itself)
        found = found or alone.num_rows > 0
        if alone.num_rows and alone["kind"][0].as_py() != Kind.DIRECTORY:
            yield alone
            return
        below = pc.invert(itself)
        rows = table.filter(below if recursive else pc.and_(_equal(table["dir"], under), below))
        found = found or rows.num_rows > 0
        if rows.num_rows:
            yield rows
        elif not recursive and _beyond(table, under):
            return
    if not found and under:
        raise ConfigError(
            f"the snapshot holds no {display_path(under)!r}", hint="`moraine find` looks for names in all snapshots"
        )


def _equal(column: pa.ChunkedArray, value: bytes) -> pa.ChunkedArray:
    return pc.equal(column.cast(pa.binary()), pa.scalar(value, pa.binary()))


def _beyond(table: pa.Table, under: bytes) -> bool:
    """Whether the table starts below the directory's own children, so that none can follow."""
    first = table["dir"][0].as_py()
    return bool(first != under and first.startswith(under + b"/" if under else b""))
