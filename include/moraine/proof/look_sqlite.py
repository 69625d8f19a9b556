"""SQLite databases: the library's own integrity check, and how many rows each table has. Never writes beside them."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote_from_bytes

from moraine.errors import RestoreError
from moraine.proof.look import Look

QUICK_FROM = 1 << 30  # bytes: larger databases are checked without comparing indexes with their tables
_MAGIC = b"SQLite format 3\0"


def look_sqlite(path: Path, scratch: Path) -> Look:
    """Open it, check it, count its rows."""
    with path.open("rb") as file:
        head = file.read(len(_MAGIC))
    if head and head != _MAGIC:
        return Look("it is no SQLite database: its first bytes are others")
    wal = path.with_name(path.name + "-wal")
    if not wal.exists() or not wal.stat().st_size:
        return _open(path, "mode=ro&immutable=1")
    copy = scratch / "database.sqlite"  # what its log holds is applied when it is opened, so not to the restored file
    beside = copy.with_name(copy.name + "-wal")
    try:
        _copy(path, copy)
        _copy(wal, beside)
        return _open(copy, "mode=rw")
    finally:
        for left in (copy, beside, copy.with_name(copy.name + "-shm")):
            left.unlink(missing_ok=True)


def _copy(path: Path, copy: Path) -> None:
    try:
        shutil.copyfile(path, copy)
    except OSError as error:  # says nothing about the database
        raise RestoreError(
            f"cannot copy {path.name} to the scratch {copy.parent}: {error.strerror}",
            hint="give the drill more room",
            target=str(copy.parent),
        ) from error


def _open(path: Path, mode: str) -> Look:
    check = "quick_check" if path.stat().st_size >= QUICK_FROM else "integrity_check"
    try:
        with closing(sqlite3.connect(f"file:{quote_from_bytes(bytes(path))}?{mode}", uri=True)) as database:
            found = [str(row[0]) for row in database.execute(f"pragma {check}(3)")]
            if found != ["ok"]:
                return Look(f"{check}, expected ok, found: {'; '.join(' '.join(line.split()) for line in found)}")
            names = "select name from sqlite_schema where type = 'table' and rootpage > 0 order by name"
            tables = [str(row[0]) for row in database.execute(names)]
            return Look(rows=sum(_rows(database, name) for name in tables))
    except sqlite3.Error as error:
        return Look(f"it does not open: {error}")


def _rows(database: sqlite3.Connection, table: str) -> int:
    quoted = table.replace('"', '""')
    return int(database.execute(f'select count(*) from "{quoted}"').fetchone()[0])
