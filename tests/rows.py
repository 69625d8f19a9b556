"""Makes inventories and manifests for tests, as Arrow tables in manifest order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from moraine.model.entry import Kind, row_key, split_path
from moraine.model.schemas import CONTENT, INVENTORY, MANIFEST

DEFAULTS: dict[str, Any] = {
    "kind": Kind.FILE, "size": 10, "mode": 0o644, "uid": 1000, "gid": 1000, "mtime": 1_700_000_000, "mtime_ns": 1,
    "ctime": 1_700_000_000, "ctime_ns": 2, "inode": 1, "device": 7, "nlink": 1, "rdev": 0, "state": 0,
}  # fmt: skip


def inventory(entries: Mapping[bytes, Mapping[str, Any]] | Iterable[bytes]) -> pa.Table:
    """An inventory of paths; values override the defaults of a regular file."""
    return _table(entries, INVENTORY)


def manifest(entries: Mapping[bytes, Mapping[str, Any]]) -> pa.Table:
    """Manifest rows of paths; digests and other content columns are null unless given."""
    return _table(entries, MANIFEST)


def paths(table: pa.Table) -> list[bytes]:
    """The paths of a table's rows."""
    pairs = zip(table["dir"].to_pylist(), table["name"].to_pylist(), strict=True)
    return [d + b"/" + n if d else n for d, n in pairs]


def _table(entries: Mapping[bytes, Mapping[str, Any]] | Iterable[bytes], schema: pa.Schema) -> pa.Table:
    given = entries if isinstance(entries, Mapping) else {path: {} for path in entries}
    rows = []
    for path, values in given.items():
        directory, name = split_path(path)
        empty = {field.name: None for field in CONTENT} if schema is MANIFEST else {}
        rows.append({"dir": directory, "name": name, **DEFAULTS, **empty, **values})
    rows.sort(key=lambda row: row_key(row["dir"], row["name"]))
    columns = []
    for field in schema:
        values_of = [row[field.name] for row in rows]
        if pa.types.is_dictionary(field.type):
            columns.append(pa.array(values_of, field.type.value_type).dictionary_encode().cast(field.type))
        else:
            columns.append(pa.array(values_of, field.type))
    return pa.table(columns, schema=schema)
