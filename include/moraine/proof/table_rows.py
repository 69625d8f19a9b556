"""The rows of files of one table as Arrow tables of bounded size, whatever the size of the files.

Parquet pages are streamed, not row groups loaded; columns can be chosen, and only those are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from moraine.proof.look_text import BLOCK, find_dialect, open_csv

ROWS = 1 << 17  # of a window
BYTES = 32 << 20  # of a window, about
_STREAM = 1 << 20  # bytes read of a column chunk at a time
_HEAD = 64 << 10


def windows(
    kind: str, paths: Iterable[Path], rules: dict[str, Any], columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """All rows in files' order, in tables of at most ROWS rows and about BYTES bytes; small files share one.

    Raises:
        OSError, ArrowException: a file cannot be read as what it is said to be.
    """
    waiting: list[pa.Table] = []
    rows = held = 0
    for batch in _batches(kind, paths, rules, columns):
        for piece in _pieces(pa.table(batch)):
            fits = rows + piece.num_rows <= ROWS and held + piece.nbytes <= BYTES
            if waiting and not (fits and piece.schema.equals(waiting[0].schema)):
                yield pa.concat_tables(waiting)
                waiting, rows, held = [], 0, 0
            waiting.append(piece)
            rows, held = rows + piece.num_rows, held + piece.nbytes
    if waiting:
        yield pa.concat_tables(waiting)


def _pieces(table: pa.Table) -> Iterator[pa.Table]:
    count = max(1, table.nbytes // BYTES + 1, -(-table.num_rows // ROWS))
    step = max(1, -(-table.num_rows // count))
    for start in range(0, table.num_rows, step):
        yield table.slice(start, step)


def _batches(
    kind: str, paths: Iterable[Path], rules: dict[str, Any], columns: Sequence[str] | None
) -> Iterator[pa.RecordBatch]:
    for path in paths:
        if kind == "parquet":
            yield from _parquet(path, columns)
        elif kind == "orc":
            yield from _orc(path, columns)
        else:
            batches = _csv(path, rules) if kind == "csv" else _jsonl(path)
            for batch in batches:
                yield batch.select([c for c in columns if c in batch.schema.names]) if columns else batch


def _parquet(path: Path, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, buffer_size=_STREAM, pre_buffer=False) as file:
        wide = max(1, _row_bytes(file.metadata))
        size = max(256, min(ROWS, BYTES // wide))
        yield from file.iter_batches(batch_size=size, columns=columns, use_threads=False)


def _row_bytes(metadata: Any) -> int:
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    return int(sum(group.total_byte_size for group in groups) // max(1, metadata.num_rows))


def _orc(path: Path, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    from pyarrow import orc

    file = orc.ORCFile(str(path))
    names = None if columns is None else [name for name in columns if name in file.schema.names]
    for stripe in range(file.nstripes):  # 64 MiB each, as writers make them
        yield file.read_stripe(stripe, columns=names)


def _csv(path: Path, rules: dict[str, Any]) -> Iterator[pa.RecordBatch]:
    with path.open("rb") as file:
        found = find_dialect(file.read(_HEAD), path.suffix.lower(), rules.get("delimiter"))
    if isinstance(found, str):
        raise pa.ArrowInvalid(found)
    with open_csv(path, *found, lambda row: "skip") as reader:
        yield from reader


def _jsonl(path: Path) -> Iterator[pa.RecordBatch]:
    from pyarrow import json

    if path.stat().st_size:
        with json.open_json(path, read_options=json.ReadOptions(use_threads=False, block_size=BLOCK)) as reader:
            yield from reader
