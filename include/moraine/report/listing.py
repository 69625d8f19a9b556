"""What stands in a snapshot: the children of a directory, or a whole subtree, in manifest order."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from moraine.errors import ConfigError
from moraine.model.entry import Kind, display_path, split_path
from moraine.report.entries import COLUMNS, Entry, iter_entries
from moraine.repository.manifest import Manifest


def list_entries(manifest: Manifest, under: bytes = b"", *, recursive: bool = False) -> Iterator[Entry]:
    """The entries below a directory (not itself), or the one entry when `under` is none.

    Raises:
        ConfigError: the snapshot holds no such path.
    """
    directory, name = split_path(under)
    tables = manifest.tables(COLUMNS, under)
    found = False
    for table in tables:
        itself = pc.and_(_equal(table["dir"], directory), pc.equal(table["name"], name))
        if not found:
            for entry in iter_entries([table.filter(itself)]):
                found = True
                if entry.kind != Kind.DIRECTORY:
                    yield entry
                    return
        wanted = pc.invert(itself) if recursive else pc.and_(_equal(table["dir"], under), pc.invert(itself))
        rows = table.filter(wanted)
        found = found or rows.num_rows > 0
        yield from iter_entries([rows])
        if not recursive and not rows.num_rows and _beyond(table, under):
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
