"""All restored files beside the rows of the manifest: what is missing, what is extra, what has other content."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from moraine.engine.rows import Cursor, aligned, match, rechunk
from moraine.model import compute as pc
from moraine.model.entry import Kind, State, display_path
from moraine.proof.data_set import DataSet
from moraine.proof.data_set_plan import row_paths
from moraine.proof.rehash import content_digest, stored_spans
from moraine.repository.repository import Repository
from moraine.sources.posix import PosixSource
from moraine.sources.posix_target import PosixTarget
from moraine.sources.target import TargetReader

WINDOW = 1 << 13
_READ = ("dir", "name", "kind", "size", "state", "extents", "digest", "chunks")
FACTS = pa.schema(
    [
        pa.field("path", pa.string()),
        pa.field("missing", pa.bool_()),
        pa.field("extra", pa.bool_()),
        pa.field("size", pa.int64()),
        pa.field("recorded_size", pa.int64()),
        pa.field("same_content", pa.bool_()),
    ]
)


def compare_files(
    root: Path, data_set: DataSet, repository: Repository, *, digests: bool
) -> Iterator[tuple[pa.Table, list[str]]]:
    """Facts of the files in manifest order, and a note on each, window by window."""
    snapshot = repository.snapshot(data_set.snapshot)
    known = Cursor(_files(repository.manifest(snapshot).tables(_READ), stored=True))
    source = PosixSource(str(root))
    found = Cursor(_files((pa.table(b) for s in source.shards(1) for b in source.list(s)), stored=False))
    with PosixTarget(root).reader() as reader:
        content = _Content(repository, reader) if digests else None
        for there, wanted in aligned(found, known):
            there = there if there is not None else _nothing(("dir", "name", "size"))
            wanted = wanted if wanted is not None else _nothing(_READ)
            rows = [*_wanted(there, wanted, content, whole=data_set.whole), *_extra(there, wanted)]
            if rows:
                yield pa.Table.from_pylist(rows, FACTS), [_note(row) for row in rows]


def _files(tables: Iterator[pa.Table], *, stored: bool) -> Iterator[pa.Table]:
    for table in rechunk(tables, WINDOW):
        mask = pc.equal(table["kind"], int(Kind.FILE))
        if stored:
            kept = pc.is_in(table["state"], value_set=pa.array([State.OK, State.RACY], pa.uint8()))
            mask = pc.and_(mask, kept)
        if (rows := table.filter(mask)).num_rows:
            yield rows


def _wanted(there: pa.Table, wanted: pa.Table, content: _Content | None, *, whole: bool) -> Iterator[dict[str, Any]]:
    at = match(wanted, there)
    sizes = there["size"].to_numpy()
    kept = np.flatnonzero((at >= 0) | whole)  # of a sample nothing is missing
    chosen = wanted.take(pa.array(kept))
    if content:
        content.locate(chosen)
    for path, row, number in zip(row_paths(chosen).to_pylist(), chosen.to_pylist(), at[kept].tolist(), strict=True):
        size = int(sizes[number]) if number >= 0 else None
        yield {
            "path": display_path(path),
            "missing": size is None,
            "extra": False,
            "size": size,
            "recorded_size": row["size"],
            "same_content": content.same(row) if content and size == row["size"] else None,
        }


def _extra(there: pa.Table, wanted: pa.Table) -> Iterator[dict[str, Any]]:
    rows = there.filter(pa.array(match(there, wanted) < 0))
    for path, size in zip(row_paths(rows).to_pylist(), rows["size"].to_pylist(), strict=True):
        yield {"path": display_path(path), "missing": False, "extra": True, "size": size}


class _Content:
    """Reads restored files again and compares their digests."""

    def __init__(self, repository: Repository, reader: TargetReader) -> None:
        self._repository = repository
        self._reader = reader
        self._sizes: dict[bytes, int] = {}

    def locate(self, rows: pa.Table) -> None:
        """Learn how the files of these rows are cut."""
        ids = {chunk for chunks in rows["chunks"].to_pylist() for chunk in chunks or ()}
        table = self._repository.index.locate(pa.array(sorted(ids), pa.binary(32))) if ids else None
        self._sizes = (
            {} if table is None else dict(zip(table["id"].to_pylist(), table["size"].to_pylist(), strict=True))
        )

    def same(self, row: dict[str, Any]) -> bool | None:
        """Whether the file has the digest of its row; None when there is none."""
        file = self._reader.open(row["dir"], row["name"]) if row["digest"] else None
        if file is None:
            return None
        try:
            spans = stored_spans(row["size"], row["extents"])
            stored = sum(length for _, length in spans)
            cuts = [self._sizes[chunk] for chunk in row["chunks"]] if row["chunks"] else [stored] if stored else []
            digest = content_digest(file.read_at, spans, cuts, id_key=self._repository.keyring.id_key)
            return bool(digest == row["digest"])
        finally:
            file.close()


def _nothing(names: tuple[str, ...]) -> pa.Table:
    from moraine.model.schemas import MANIFEST

    return pa.schema([MANIFEST.field(name) for name in names]).empty_table()


def _note(row: dict[str, Any]) -> str:
    if row["missing"]:
        return f"{row['path']}: expected {row['recorded_size']:,} bytes, found nothing"
    if row["extra"]:
        return f"{row['path']}: expected nothing, found {row['size']:,} bytes"
    if row["size"] != row["recorded_size"]:
        return f"{row['path']}: expected {row['recorded_size']:,} bytes, found {row['size']:,}"
    return f"{row['path']}: found other content than the manifest's digest says"
