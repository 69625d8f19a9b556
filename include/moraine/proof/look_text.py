"""CSV and JSON lines: dialect, columns, rows that are ragged, do not decode or do not parse. Read in blocks."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv

from moraine.proof.look import Look

BLOCK = 8 << 20  # a longer row is a problem of its own
_HEAD = 64 << 10
_DELIMITERS = (",", ";", "\t", "|")
_BOM = b"\xef\xbb\xbf"


def look_csv(path: Path, delimiter: str | None, wanted: list[str] | None) -> Look:
    """Header, delimiter, encoding, and rows with more or fewer columns than the header."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        return Look("it is empty: there is no header")
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return Look("it is UTF-16, expected UTF-8")
    found = find_dialect(head, path.suffix.lower(), delimiter)
    if isinstance(found, str):
        return Look(found)
    separator, columns = found
    look = Look(columns=_said(columns, separator))
    look.wanted_columns = _said(wanted, delimiter or separator) if wanted else None
    _count(path, separator, columns, look)
    return look


def find_dialect(head: bytes, ending: str, delimiter: str | None) -> tuple[str, list[str]] | str:
    """Delimiter and column names of a CSV file that begins with `head`; or what is wrong with its first line."""
    line = head.removeprefix(_BOM).partition(b"\n")[0].rstrip(b"\r")
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        return f"its header is no UTF-8: byte {error.start}"
    if not text or "\0" in text:
        return "its first line is no header"
    split = {choice: next(csv.reader([text], delimiter=choice)) for choice in (*_DELIMITERS, *(delimiter or ""))}
    best = max(split, key=lambda choice: len(split[choice]))
    stated = delimiter or ("\t" if ending == ".tsv" else None)
    if stated and len(split[stated]) == 1 < len(split[best]):
        return f"expected columns separated by {stated!r}, found {best!r}"
    return (stated, split[stated]) if stated else (best, split[best])


class _Ragged:
    """Counts the rows that the reader turns away."""

    def __init__(self) -> None:
        self.count = 0
        self.first = ""

    def __call__(self, row: Any) -> str:
        self.count += 1
        where = f"row {row.number}" if row.number is not None else "a row"
        self.first = self.first or f"{where} has {row.actual_columns} columns, expected {row.expected_columns}"
        return "skip"


def open_csv(path: Path, separator: str, names: list[str], ragged: Any, types: Any = None) -> Any:
    """Batches of a CSV file's rows, the header left out."""
    return pacsv.open_csv(
        path,
        read_options=pacsv.ReadOptions(
            use_threads=False, block_size=BLOCK, column_names=names, skip_rows_after_names=1
        ),
        parse_options=pacsv.ParseOptions(delimiter=separator, newlines_in_values=True, invalid_row_handler=ragged),
        convert_options=pacsv.ConvertOptions(column_types=types, check_utf8=False),
    )


def _count(path: Path, separator: str, columns: list[str], look: Look) -> None:
    names = [str(number) for number in range(len(columns))]  # headers may name a column twice
    ragged = _Ragged()
    rows = bad = 0
    try:
        with open_csv(path, separator, names, ragged, dict.fromkeys(names, pa.binary())) as reader:
            for batch in reader:
                undecoded = _undecoded(batch)
                if undecoded and not look.first_bad:
                    look.first_bad = f"row {rows + undecoded[0] + 2} is no UTF-8"
                rows, bad = rows + batch.num_rows, bad + len(undecoded)
    except pa.ArrowInvalid as error:
        look.problem = f"it does not parse: {str(error).splitlines()[0]}"
    look.rows, look.bad_rows = rows + ragged.count, bad + ragged.count
    look.first_bad = ragged.first or look.first_bad


def _undecoded(batch: pa.RecordBatch) -> list[int]:
    """Rows of a batch that hold bytes which are no UTF-8."""
    found: set[int] = set()
    for column in batch.columns:
        try:
            column.cast(pa.string())
        except pa.ArrowInvalid:
            found.update(number for number, value in enumerate(column) if not _decodes(value.as_py()))
    return sorted(found)


def _decodes(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True


def look_jsonl(path: Path) -> Look:
    """Lines, and those that are no JSON."""
    look = Look(rows=0, bad_rows=0)
    number = rows = bad = 0
    with path.open("rb") as file:
        while line := file.readline(BLOCK):
            number += 1
            if len(line) == BLOCK and not line.endswith(b"\n"):
                look.problem = f"line {number} is longer than {BLOCK:,} bytes"
                break
            if not line.strip():
                continue
            rows += 1
            try:
                json.loads(line)
            except ValueError as error:
                bad += 1
                look.first_bad = look.first_bad or f"line {number} is no JSON: {error}"
    look.rows, look.bad_rows = rows, bad
    return look


def _said(columns: list[str], separator: str) -> str:
    name = {"\t": "tab"}.get(separator, repr(separator))
    return f"{', '.join(columns)} (separated by {name})"
