"""The `files` and `snapshots` tables of `moraine sql`: manifest rows in columns people query.

Owns names and types of these columns. Columns are made lazily: a query reads only the manifest columns it names, of
only those snapshots it can want, one manifest window at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs

from moraine.errors import MoraineError
from moraine.model import compute as pc
from moraine.model.snapshot import SnapshotRecord
from moraine.report.columns import display_column, join_paths
from moraine.report.entries import KIND_NAMES, STATE_NAMES
from moraine.report.snapshots import sort_snapshots
from moraine.repository.repository import Repository

_TIME = pa.timestamp("us")  # UTC; without a zone, as DuckDB then needs no extension
_FEW = pa.dictionary(pa.int32(), pa.string())

Make = Callable[[pa.Table], pa.Array | pa.ChunkedArray]


def _text(name: str) -> Make:
    return lambda table: display_column(table[name])


def _time(name: str) -> Make:
    return lambda table: _timestamp(table[name], table[f"{name}_ns"])


def _same(name: str) -> Make:
    return lambda table: table[name]


def _names(names: dict[int, str], column: str) -> Make:
    words = pa.array([names.get(number, "") for number in range(max(names) + 1)])

    def make(table: pa.Table) -> pa.ChunkedArray:
        codes = table[column].cast(pa.int32())
        return pa.chunked_array([pa.DictionaryArray.from_arrays(chunk, words) for chunk in codes.chunks], _FEW)

    return make


# name: type, manifest columns it is made of, how
_COLUMNS: dict[str, tuple[pa.DataType, tuple[str, ...], Make]] = {
    "path": (pa.string(), ("dir", "name"), lambda table: display_column(join_paths(table))),
    "dir": (pa.string(), ("dir",), _text("dir")),
    "name": (pa.string(), ("name",), _text("name")),
    "kind": (_FEW, ("kind",), _names(KIND_NAMES, "kind")),
    "size": (pa.int64(), ("size",), _same("size")),
    "mode": (pa.uint32(), ("mode",), _same("mode")),
    "uid": (pa.uint32(), ("uid",), _same("uid")),
    "gid": (pa.uint32(), ("gid",), _same("gid")),
    "owner": (pa.string(), ("owner",), lambda table: table["owner"].cast(pa.string())),
    "group_name": (pa.string(), ("group",), lambda table: table["group"].cast(pa.string())),
    "mtime": (_TIME, ("mtime", "mtime_ns"), _time("mtime")),
    "ctime": (_TIME, ("ctime", "ctime_ns"), _time("ctime")),
    "inode": (pa.uint64(), ("inode",), _same("inode")),
    "device": (pa.uint64(), ("device",), _same("device")),
    "nlink": (pa.uint32(), ("nlink",), _same("nlink")),
    "target": (pa.string(), ("target",), _text("target")),
    "digest": (pa.string(), ("digest",), lambda table: _hex(table["digest"])),
    "state": (_FEW, ("state",), _names(STATE_NAMES, "state")),
    "table_rows": (pa.int64(), ("table_rows",), _same("table_rows")),
    "table_shape": (_FEW, ("table_shape",), _same("table_shape")),
    "session": (pa.string(), ("session",), lambda table: table["session"].cast(pa.string())),
    "path_bytes": (pa.binary(), ("dir", "name"), lambda table: join_paths(table)),
}
_OF_SNAPSHOT: dict[str, pa.DataType] = {"snapshot": _FEW, "policy": _FEW, "captured_at": _TIME}
FILES = pa.schema([*_OF_SNAPSHOT.items(), *((name, kind) for name, (kind, _, _) in _COLUMNS.items())])


class FilesTable(ds.InMemoryDataset):  # type: ignore[misc]  # pyarrow is untyped
    """All rows of all live snapshots, as an Arrow dataset that reads manifests only when it is scanned.

    DuckDB scans a subclass of pyarrow's Dataset by its `scanner` method, once per place in the query.
    """

    def __init__(self, repository: Repository) -> None:
        super().__init__(FILES.empty_table())
        self.repository = repository
        self.failure: MoraineError | None = None  # DuckDB loses the error that broke a scan; this keeps it

    def scanner(self, columns: Sequence[str] | None = None, filter: pc.Expression | None = None) -> Scan:
        """The rows that pass the filter, in these columns."""
        return Scan(self, FILES.names if columns is None else list(columns), filter)


class Scan:
    """One pass over the files table; pulled window by window, nothing is read ahead."""

    def __init__(self, table: FilesTable, columns: list[str], filter: pc.Expression | None) -> None:
        self._table = table
        self._columns = columns
        self._filter = filter

    def to_reader(self) -> pa.RecordBatchReader:
        """The rows as a stream."""
        schema = pa.schema([FILES.field(name) for name in self._columns])
        return pa.RecordBatchReader.from_batches(schema, self._watched())

    def _watched(self) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._batches()
        except MoraineError as error:
            self._table.failure = error
            raise

    def _batches(self) -> Iterator[pa.RecordBatch]:
        wanted = list(self._columns) + [n for n in FILES.names if n not in self._columns and _mentions(self._filter, n)]
        made_of = [part for name in wanted if name in _COLUMNS for part in _COLUMNS[name][1]]
        repository = self._table.repository
        for record in _pruned(sort_snapshots(repository.state.live()), self._filter):
            manifest = repository.manifest(repository.snapshot(record.id))
            for table in manifest.tables(sorted(set(made_of)) or ["kind"]):
                rows = _make(table, record, pa.schema([FILES.field(name) for name in wanted]))
                kept = rows if self._filter is None else rows.filter(self._filter)
                yield from kept.select(self._columns).to_batches(max_chunksize=1 << 16)


def snapshots_table(records: Iterable[SnapshotRecord]) -> pa.Table:
    """One row per live snapshot."""
    rows = []
    for record in records:
        times = {"window_start": record.window.start, "window_end": record.window.end}
        times |= {name: getattr(record, name) for name in ("captured_at", "finished_at", "proven", "failed")}
        rows.append(record.to_dict() | {name: time and time.replace(tzinfo=None) for name, time in times.items()})
    return pa.Table.from_pylist(rows, SNAPSHOTS)


SNAPSHOTS = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "policy", "source", "host")),
        *((name, _TIME) for name in ("window_start", "window_end", "captured_at", "finished_at")),
        ("late", pa.bool_()),
        *((name, pa.int64()) for name in ("files", "bytes", "added", "stored", "unreadable")),
        *((name, _TIME) for name in ("proven", "failed")),
        ("held", pa.string()),
    ]
)


def _make(table: pa.Table, record: SnapshotRecord, schema: pa.Schema) -> pa.Table:
    fixed = {"snapshot": record.id, "policy": record.policy, "captured_at": record.captured_at.replace(tzinfo=None)}
    columns: list[pa.Array | pa.ChunkedArray] = []
    for field in schema:
        if field.name not in fixed:
            columns.append(_COLUMNS[field.name][2](table))
        elif field.type == _FEW:
            code = pa.array(np.zeros(table.num_rows, np.int32))
            columns.append(pa.DictionaryArray.from_arrays(code, pa.array([fixed[field.name]])))
        else:
            columns.append(pa.repeat(pa.scalar(fixed[field.name], field.type), table.num_rows))
    return pa.table(columns, schema=schema)


def _pruned(records: list[SnapshotRecord], filter: pc.Expression | None) -> list[SnapshotRecord]:
    """The snapshots whose id, policy and time can satisfy the filter: Arrow's own partition pruning decides."""
    if filter is None or not records:
        return records
    known = {
        record.id: (pc.field("snapshot") == record.id)
        & (pc.field("policy") == record.policy)
        & (pc.field("captured_at") == pa.scalar(record.captured_at.replace(tzinfo=None), _TIME))
        for record in records
    }
    plain = pa.schema([pa.field(f.name, f.type.value_type if f.type == _FEW else f.type) for f in FILES])
    pieces = ds.FileSystemDataset.from_paths(
        list(known), plain, ds.ParquetFileFormat(), pyarrow.fs.LocalFileSystem(), partitions=list(known.values())
    )
    left = {piece.path for piece in pieces.get_fragments(filter=filter)}
    return [record for record in records if record.id in left]


def _mentions(filter: pc.Expression | None, name: str) -> bool:
    return filter is not None and re.search(rf"\b{name}\b", str(filter)) is not None


def _timestamp(seconds: pa.ChunkedArray, nanoseconds: pa.ChunkedArray) -> pa.ChunkedArray:
    limit = (1 << 63) // 1_000_000 - 1  # beyond it the instant has no microseconds in 64 bits
    usable = pc.and_(pc.less_equal(seconds, limit), pc.greater_equal(seconds, -limit))
    kept = pc.if_else(usable, seconds, None)
    micros = pc.add(pc.multiply(kept, 1_000_000), pc.cast(pc.divide(nanoseconds, 1000), pa.int64()))
    return micros.cast(_TIME)


def _hex(column: pa.ChunkedArray) -> pa.Array:
    return pa.array([None if value is None else value.hex() for value in column.to_pylist()], pa.string())
