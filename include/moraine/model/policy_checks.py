"""The `checks` part of a policy: what a drill holds the restored data against, besides the checks that need no words.

Owns the keys users write there. Pure; the descriptions become a part of `include/policies/schema.json`.
"""

from __future__ import annotations

import re
from dataclasses import field
from typing import Annotated, Literal

from moraine.model.policy_types import NAME, Name, Part, Paths, Read, Share, about, key
from moraine.model.record import dataclass

FileKind = Literal["auto", "parquet", "orc", "csv", "jsonl", "sqlite", "container", "image"]
TABLES = ("parquet", "orc", "csv", "jsonl")  # kinds whose rows a suite can be held against

SUFFIXES: dict[str, tuple[str, ...]] = {
    "parquet": (".parquet", ".pq"),
    "orc": (".orc",),
    "csv": (".csv", ".tsv"),
    "jsonl": (".jsonl", ".ndjson"),
    "sqlite": (".sqlite", ".sqlite3", ".db3"),
    "container": (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip", ".gz"),
    "image": (".png", ".jpg", ".jpeg", ".gif"),
}

_DIGEST = re.compile(r"(sha256|rows):([0-9a-f]{64})")


def _globs(value: object) -> object:
    return (value,) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Part):
    """What some files must be like when they come back."""

    paths: Annotated[
        Paths,
        Read(
            _globs,
            limits={"min_length": 1},
            schema={"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
        ),
    ] = field(metadata=about("globs from the root of the source; several, or one"))
    name: str | None = key(None, "what reports call them", pattern=NAME)
    kind: FileKind = key("auto", "what these files are; auto: told by their endings")
    expectations: tuple[Name, ...] = key(
        (), "suites of include/expectations that the rows are held against, all files together as one table"
    )
    rows_tolerance: Share = key(0.001, "share of a table's rows that may be more or fewer than recorded that night")
    grows: bool = key(False, "the table only gains rows: fewer than the snapshot before, beyond the tolerance, fail")
    drift: Literal["fail", "allow"] = key(
        "fail", "fail: a table's columns may be added to since the snapshot before, not renamed or retyped"
    )
    columns: tuple[str, ...] | None = key(None, "the columns a CSV file must have, in order")
    delimiter: str | None = key(
        None, "what separates the columns of a CSV file; none: found out", min_length=1, max_length=1
    )
    critical: dict[str, str] = key(
        {}, "path of a file or table: its `sha256:…` (a file) or `rows:…` (rows in any order)"
    )

    def __post_init__(self) -> None:
        if self.expectations and self.kind not in TABLES:
            raise ValueError(f"of kind {', '.join(TABLES)} to have `expectations`")
        if (self.columns or self.delimiter) and self.kind != "csv":
            raise ValueError("of kind csv to have `columns` or a `delimiter`")
        for path, digest in self.critical.items():
            if not _DIGEST.fullmatch(digest):
                raise ValueError(f"right: the digest of {path!r} is `sha256:` or `rows:` and 64 hex digits")
