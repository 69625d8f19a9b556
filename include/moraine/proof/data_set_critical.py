"""Digests that a policy states for files and tables it cannot do without.

`sha256:` is that of a file's bytes. `rows:` is that of a table's rows in any order and in any number of files: each row
is written as one line of text, hashed, and the hashes are added up, so that tables can be compared however they are
stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from blake3 import blake3

from moraine.model import compute as pc
from moraine.proof.data_set import DataSet
from moraine.proof.look import full_path
from moraine.proof.table_rows import windows

FACTS = pa.schema([pa.field(name, pa.string()) for name in ("path", "stated", "found")])
_LANES = 4  # 64-bit sums that make up a digest of rows
_ABSENT = "\x00"  # stands for a null; no text of a column can begin with it and be confused: lengths are written too


def critical_facts(
    root: Path, data_set: DataSet, stated: dict[str, str], not_proven: list[str]
) -> tuple[pa.Table, list[str]]:
    """One row per stated digest that can be computed, and a note on each."""
    rows = []
    for path, digest in sorted(stated.items()):
        place = full_path(root, path.encode())
        if not place.exists() and not data_set.whole:
            not_proven.append(f"the digest of {path}: it was not in the sample")
            continue
        rows.append({"path": path, "stated": digest, "found": _found(root, place, digest, data_set)})
    if rows and not data_set.whole and any(full_path(root, row["path"].encode()).is_dir() for row in rows):
        kept = [row for row in rows if not full_path(root, row["path"].encode()).is_dir()]
        not_proven += [f"the digest of table {row['path']}: a sample was restored" for row in rows if row not in kept]
        rows = kept
    notes = [f"{row['path']}: expected {row['stated']}, found {row['found']}" for row in rows]
    return pa.Table.from_pylist(rows, FACTS), notes


def _files(root: Path, folder: Path, data_set: DataSet) -> list[Path]:
    """The files of a table: those of the data set below a folder."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    names = pa.array([bytes(path.relative_to(root)) for path in found], pa.binary())
    return [path for path, mine in zip(found, data_set.mask(names), strict=True) if mine]


def _found(root: Path, place: Path, digest: str, data_set: DataSet) -> str:
    if not place.exists():
        return "nothing"
    try:
        if digest.startswith("sha256:"):
            with place.open("rb") as file:
                return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        files = _files(root, place, data_set) if place.is_dir() else [place]
        return f"rows:{rows_digest(data_set, files)}"
    except (OSError, pa.ArrowException) as error:
        return f"that it cannot be read: {str(error).strip().splitlines()[0]}"


def rows_digest(data_set: DataSet, files: Sequence[Path]) -> str:
    """The digest of the rows of these files, in any order: 64 hex digits."""
    total = np.zeros(_LANES, np.uint64)
    for table in windows(data_set.kind, files, data_set.rules):
        lines = _lines(table)
        digests = b"".join(blake3(line).digest() for line in lines.to_pylist())
        total += np.frombuffer(digests, "<u8").reshape(-1, _LANES).sum(axis=0, dtype=np.uint64)
    return total.astype("<u8").tobytes().hex()


def _lines(table: pa.Table) -> pa.ChunkedArray:
    """Every row as bytes: for each column, by name, its name, the length of its value as text, and the value."""
    parts = []
    for name in sorted(table.schema.names):
        text = _text(table[name].combine_chunks())
        length = pc.binary_length(text).cast(pa.string()).cast(pa.binary())
        parts += [pa.scalar(name.encode(), pa.binary()), length, text]
    return pc.binary_join_element_wise(*parts, pa.scalar(b"\x1f", pa.binary()))


def _text(column: pa.Array) -> pa.Array:
    column = pc.plain(column)
    kind = pa.binary() if pa.types.is_binary(column.type) else pa.string()
    try:
        text = column.cast(kind).cast(pa.binary())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        text = pa.array([None if value is None else repr(value).encode() for value in column.to_pylist()], pa.binary())
    return pc.fill_null(text, _ABSENT.encode())
