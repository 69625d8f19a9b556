"""SQL over a repository: one read-only DuckDB query over the tables `snapshots`, `files` and `drills`.

Owns the connection: in memory, without access to files or network beyond a scratch directory for spilling, closed
before the query's context ends. Rows come out in batches, so a result may be larger than memory.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import Any

import duckdb

from moraine.errors import ConfigError
from moraine.model.record import dataclass
from moraine.report.drills import drills_table
from moraine.report.files_table import FilesTable, snapshots_table
from moraine.report.snapshots import sort_snapshots
from moraine.repository.repository import Repository

BATCH_ROWS = 2048


@dataclass(frozen=True, slots=True)
class Answer:
    """A query's result: names of its columns, and batches of rows that are made while they are read."""

    columns: list[str]
    batches: Iterator[list[tuple[Any, ...]]]


@contextmanager
def query(repository: Repository, sql: str, *, scratch: Path, memory: int = 1 << 30) -> Iterator[Answer]:
    """Run one query; `scratch` is where DuckDB may spill, `memory` what it may use in bytes.

    Raises:
        ConfigError: DuckDB does not accept the query, with its own words.
    """
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{memory >> 20}MiB",
        "temp_directory": str(scratch),
    }
    connection = duckdb.connect(":memory:", config=config)
    files = FilesTable(repository)
    try:
        connection.register("files", files)
        connection.register("snapshots", snapshots_table(sort_snapshots(repository.state.live())))
        if "drills" in sql:  # its reports are read at once, so only for whom asks
            connection.register("drills", drills_table(repository))
        connection.execute("SET enable_external_access=false")
        connection.execute("SET lock_configuration=true")
        with _translated(files):
            _require_one_query(connection, sql)
            connection.execute(sql)
            names = [column[0] for column in connection.description or []]
        yield Answer(names, _batches(connection, files))
    finally:
        connection.close()


def _batches(connection: duckdb.DuckDBPyConnection, files: FilesTable) -> Iterator[list[tuple[Any, ...]]]:
    with _translated(files):
        while rows := connection.fetchmany(BATCH_ROWS):
            yield rows


def _require_one_query(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    kinds = [statement.type.name for statement in connection.extract_statements(sql)]
    if len(kinds) != 1 or kinds[0] not in ("SELECT", "EXPLAIN", "PRAGMA", "MULTI"):
        found = f"{len(kinds)} statements" if len(kinds) != 1 else f"a statement of type {kinds[0]}"
        raise ConfigError(
            f"one SELECT is wanted, not {found}",
            hint="the tables are `files`, `snapshots` and `drills`; they are read-only",
        )


@contextmanager
def _translated(files: FilesTable) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        if files.failure:
            raise files.failure from error
        message = re.split(r"\n\s*\n", str(error))[0].replace("\n", " ")
        raise ConfigError(
            f"the query failed: {message}",
            hint="`describe files`, `describe snapshots` and `describe drills` show the columns",
        ) from error


def json_value(value: Any) -> Any:
    """A value of an answer as JSON has it: times as RFC 3339, bytes as base64, numbers beyond JSON's as text."""
    if isinstance(value, datetime):
        return value.isoformat() + ("" if value.tzinfo else "Z")
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, dict):
        return {str(key): json_value(item) for key, item in value.items()}
    return value if value is None or isinstance(value, str | int | bool) else str(value)
