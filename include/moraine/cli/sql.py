"""`moraine sql`: ask the files of all snapshots in SQL."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moraine.cli.context import Context
from moraine.cli.flags import size
from moraine.cli.text import plural, table

if TYPE_CHECKING:
    from moraine.report.query import Answer

_MEASURED = 1000  # rows that decide how wide the columns are


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's own arguments."""
    parser.add_argument("query", metavar="QUERY", help="one SELECT over the tables files, snapshots and drills")
    parser.add_argument("--csv", action="store_true", help="print CSV")
    parser.add_argument(
        "--memory", type=size, default=1 << 30, metavar="SIZE", help="most memory for the query (default 1GiB)"
    )
    parser.epilog = (
        "`describe files`, `describe snapshots` and `describe drills` show the columns. Times are UTC. Sizes are bytes."
    )


def run(args: argparse.Namespace, context: Context) -> int:
    """Run the query and print what it answers, row by row as it comes."""
    context.begin_aside(args)
    from moraine.report.query import query

    repository = context.open_repository(args)
    with (
        tempfile.TemporaryDirectory(prefix="moraine-sql-") as scratch,
        query(repository, args.query, scratch=Path(scratch), memory=args.memory) as answer,
    ):
        if context.out.as_json:
            context.out.json_array(
                dict(zip(answer.columns, map(_json_value, row), strict=True)) for row in _rows(answer)
            )
        elif args.csv:
            context.out.lines(_csv(answer))
        else:
            _print_table(answer, context)
    return 0


def _rows(answer: Answer) -> Iterator[tuple[Any, ...]]:
    return chain.from_iterable(answer.batches)


def _print_table(answer: Answer, context: Context) -> None:
    """A table; the first rows decide the widths, later ones may stick out."""
    rows = _rows(answer)
    first = list(islice(rows, _MEASURED))
    numbers = [
        i
        for i in range(len(answer.columns))
        if any(isinstance(r[i], int | float) and not isinstance(r[i], bool) for r in first)
    ]
    lines = list(table(answer.columns, [_cells(row) for row in first], right=[answer.columns[i] for i in numbers]))
    context.out.lines(lines)
    count = len(first)
    for row in rows:
        context.out.line("  ".join(_cells(row)))
        count += 1
    context.out.summary(["", plural(count, "row")])


def _cells(row: Iterable[Any]) -> list[str]:
    return [_text(value) for value in row]


def _text(value: Any) -> str:
    from moraine.model.entry import display_path

    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.15g}"
    text = value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
    return display_path(text)


def _json_value(value: Any) -> Any:
    from moraine.report.query import json_value

    return json_value(value)


def _csv(answer: Answer) -> Iterator[str]:
    import csv
    import io

    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="")
    for row in chain([answer.columns], _rows(answer)):
        writer.writerow([_text(value) for value in row])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
