"""Rows of inventory files (CSV, ORC, Parquet) as OBJECTS. Knows their columns, nothing of where they come from."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import pyarrow as pa
from pyarrow import csv

from moraine.model import compute as pc
from moraine.sources.s3_client import ARCHIVED
from moraine.sources.s3_sorted import OBJECTS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FORMATS = ("csv", "orc", "parquet")
_NEEDED = {"key": "Key", "size": "Size", "lastmodifieddate": "Last modified", "etag": "ETag"}
_VERSIONS = {"versionid": "VersionId", "islatest": "IsLatest", "isdeletemarker": "IsDeleteMarker"}
_OPTIONAL = ("bucket", "storageclass", "intelligenttieringaccesstier")
_TIERS = ("ARCHIVE", "DEEP_ARCHIVE", "ARCHIVE_ACCESS", "DEEP_ARCHIVE_ACCESS")


class Columns(NamedTuple):
    """What is taken from the rows."""

    bucket: str
    prefix: str
    names: list[str]  # of a CSV file's columns: it has no header
    before: datetime | None  # only versions older than this; None: only what is the latest


def read_rows(path: Path, kind: str, columns: Columns) -> Iterator[pa.RecordBatch]:
    """OBJECTS batches. Raises ValueError or ArrowException for what is no inventory of this bucket."""
    for table in _tables(path, kind, columns):
        rows = _objects(_plain(table, columns), columns, encoded=kind == "csv")
        yield from rows.combine_chunks().to_batches()


def _tables(path: Path, kind: str, columns: Columns) -> Iterator[pa.Table]:
    if kind == "parquet":
        from pyarrow import parquet

        file = parquet.ParquetFile(path)
        for batch in file.iter_batches(1 << 16, columns=_wanted(file.schema_arrow.names)):
            yield pa.Table.from_batches([batch])
        return
    if kind == "orc":
        from pyarrow import orc

        file = orc.ORCFile(path)
        for stripe in range(file.nstripes):
            yield pa.Table.from_batches([file.read_stripe(stripe, columns=_wanted(file.schema.names))])
        return
    names = columns.names
    with pa.CompressedInputStream(pa.OSFile(str(path)), "gzip") as stream:
        if not stream.read(1):  # a bucket without objects: no row, and Arrow wants one
            return
    with pa.CompressedInputStream(pa.OSFile(str(path)), "gzip") as stream:
        reader = csv.open_csv(
            stream,
            csv.ReadOptions(column_names=names, block_size=8 << 20),
            convert_options=csv.ConvertOptions(
                include_columns=_wanted(names), column_types=dict.fromkeys(names, pa.string())
            ),
        )
        for batch in reader:
            yield pa.Table.from_batches([batch])


def _wanted(names: list[str]) -> list[str]:
    known = {*_NEEDED, *_VERSIONS, *_OPTIONAL}
    return [name for name in names if _short(name) in known]


def _short(name: str) -> str:
    """`VersionId` of a CSV manifest and `version_id` of ORC and Parquet are one column."""
    return name.replace("_", "").lower()


def _plain(table: pa.Table, columns: Columns) -> pa.Table:
    table = table.rename_columns([_short(name) for name in table.column_names])
    needed = _NEEDED | (_VERSIONS if columns.before else {})
    missing = [shown for name, shown in needed.items() if name not in table.column_names]
    if missing:
        raise ValueError(f"it has no column {', '.join(missing)}: choose them in the inventory's configuration")
    if "bucket" in table.column_names:
        foreign = pc.not_equal(table["bucket"].cast(pa.string()), columns.bucket)
        if pc.any(foreign).as_py():
            raise ValueError(f"it lists objects of another bucket than {columns.bucket}")
    return table


def _objects(table: pa.Table, columns: Columns, *, encoded: bool) -> pa.Table:
    deleted = _flag(table, "isdeletemarker", default=False)
    at = _milliseconds(table["lastmodifieddate"])
    archived = _archived(table)
    found = {
        "key": _keys(table["key"], encoded=encoded),
        "size": _numbers(table["size"]),
        "at": at,
        "etag": pc.utf8_trim(table["etag"].cast(pa.string()).fill_null(""), '"'),
        "archived": archived,
        "version": _versions(table) if columns.before else pa.nulls(len(table), pa.string()),
        "latest": _flag(table, "islatest", default=True),
        "deleted": deleted,
    }
    rows = pa.table([found[field.name] for field in OBJECTS], schema=OBJECTS)
    rows = rows.filter(pc.starts_with(rows["key"], columns.prefix.encode()))
    if columns.before:
        limit = -((_EPOCH - columns.before) // timedelta(milliseconds=1))  # the first ms that is not before it
        return rows.filter(pc.less(rows["at"], limit))
    return rows.filter(rows["latest"])


def _keys(keys: pa.ChunkedArray, *, encoded: bool) -> pa.ChunkedArray:
    if not encoded:
        return keys.cast(pa.binary())
    odd = pc.match_substring_regex(keys, "[%+]")
    if not pc.any(odd).as_py():
        return keys.cast(pa.binary())
    plain = [
        unquote_to_bytes(key.replace("+", " ")) if marked else key.encode()
        for key, marked in zip(keys.to_pylist(), odd.to_pylist(), strict=True)
    ]
    return pa.chunked_array([pa.array(plain, pa.binary())])


def _numbers(sizes: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_string(sizes.type):
        sizes = pc.if_else(pc.equal(sizes, ""), "0", sizes)
    return sizes.cast(pa.int64()).fill_null(0)


def _milliseconds(times: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_integer(times.type):
        return times.cast(pa.int64())
    if pa.types.is_string(times.type):
        times = times.cast(pa.timestamp("ms", "UTC"))
    return times.cast(pa.timestamp("ms", "UTC"), safe=False).cast(pa.int64())


def _flag(table: pa.Table, name: str, *, default: bool) -> pa.ChunkedArray:
    if name not in table.column_names:
        return pa.chunked_array([pa.array([default] * len(table), pa.bool_())])
    values = table[name]
    if pa.types.is_string(values.type):
        values = pc.equal(pc.utf8_lower(values), "true")
    return values.fill_null(default)


def _versions(table: pa.Table) -> pa.ChunkedArray:
    versions = table["versionid"].cast(pa.string()).fill_null("")
    return pc.if_else(pc.equal(versions, ""), "null", versions)


def _archived(table: pa.Table) -> pa.ChunkedArray:
    """Classes and tiers from which nothing can be read at once. Whether an object has been restored is not listed."""
    nothing = pa.chunked_array([pa.nulls(len(table), pa.string())])
    archived = nothing
    for name, words in (("storageclass", sorted(ARCHIVED)), ("intelligenttieringaccesstier", _TIERS)):
        if name in table.column_names:
            values = table[name].cast(pa.string())
            hit = pc.is_in(values, value_set=pa.array(words)).fill_null(False)
            archived = pc.if_else(hit, values, archived)
    return archived
