"""What can be seen of one restored file, whatever its kind: facts that expectation suites are held against.

Looking never raises because of a file's content: what is wrong with it is its `problem`. It must not judge: whether a
bad row is one too many is the suite's to say.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa

from moraine.engine.footers import TAIL, Footer, Shape
from moraine.model.record import dataclass

FACTS = pa.schema(
    [
        pa.field("path", pa.string()),
        pa.field("problem", pa.string()),
        pa.field("rows", pa.int64()),
        pa.field("bad_rows", pa.int64()),
        pa.field("columns", pa.string()),
        pa.field("wanted_columns", pa.string()),
    ]
)


@dataclass(slots=True)
class Look:
    """The facts of one file."""

    problem: str | None = None  # it cannot be used: why
    rows: int | None = None
    bad_rows: int | None = None  # rows that are not like the others, or do not parse
    first_bad: str = ""
    columns: str | None = None  # those that were found, as text
    wanted_columns: str | None = None  # those it should have
    unread: str | None = None  # nobody can tell here whether it can be used: why


def look_at(kind: str, path: Path, rules: dict[str, Any], scratch: Path) -> Look:
    """Look at one file.

    Args:
        kind: what it is said to be; one of a policy's file kinds.
        path: where it is.
        rules: the policy's words on it: `columns` and `delimiter` of CSV files.
        scratch: a directory where copies may be made.
    """
    try:
        if kind in ("parquet", "orc"):
            return look_footer(kind, path)
        if kind in ("csv", "jsonl"):
            from moraine.proof import look_text

            if kind == "jsonl":
                return look_text.look_jsonl(path)
            return look_text.look_csv(path, rules.get("delimiter"), rules.get("columns"))
        if kind == "sqlite":
            from moraine.proof.look_sqlite import look_sqlite

            return look_sqlite(path, scratch)
        if kind == "container":
            from moraine.proof.look_containers import look_container

            return look_container(path)
        from moraine.proof.look_images import look_image

        return look_image(path)
    except OSError as error:
        return Look(f"it cannot be read: {error.strerror or error}")


def look_footer(kind: str, path: Path) -> Look:
    """The footer of a file of a table, from its last bytes."""
    size = path.stat().st_size
    footer = Footer(b"." + kind.encode(), size)
    with path.open("rb") as file:
        footer.take(memoryview(file.read(4)))
        if size > 4 + TAIL:
            footer.skip(size - TAIL - 4)
            file.seek(size - TAIL)
        footer.take(memoryview(file.read(TAIL)))
    facts = footer.facts()
    assert facts  # the ending says that it is one
    shape = Shape.of_text(facts.shape)
    columns = facts.shape if facts.rows is not None else None
    return Look(shape.problem, facts.rows, columns=columns, unread=shape.unread)


def full_path(root: Path, path: bytes) -> Path:
    """Where a path of the data set is."""
    return root / os.fsdecode(path)
