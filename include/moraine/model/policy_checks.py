"""The `checks` part of a policy: what a drill holds the restored data against, besides the checks that need no words.

Owns the keys users write there. Pure; the descriptions become a part of `include/policies/schema.json`.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from moraine.model.policy_types import Part, Share

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


class Check(Part):
    """What some files must be like when they come back."""

    paths: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        BeforeValidator(_globs),
        Field(min_length=1),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
    ] = Field(description="globs from the root of the source; several, or one")
    name: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="what reports call them")
    kind: FileKind = Field("auto", description="what these files are; auto: told by their endings")
    expectations: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")], ...] = Field(
        (), description="suites of include/expectations that the rows are held against, all files together as one table"
    )
    rows_tolerance: Share = Field(
        0.001, description="share of a table's rows that may be more or fewer than recorded that night"
    )
    grows: bool = Field(
        False, description="the table only gains rows: fewer than the snapshot before, beyond the tolerance, fail"
    )
    drift: Literal["fail", "allow"] = Field(
        "fail", description="fail: a table's columns may be added to since the snapshot before, not renamed or retyped"
    )
    columns: tuple[str, ...] | None = Field(None, description="the columns a CSV file must have, in order")
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = Field(
        None, description="what separates the columns of a CSV file; none: found out"
    )
    critical: dict[str, str] = Field(
        {}, description="path of a file or table: its `sha256:…` (a file) or `rows:…` (rows in any order)"
    )

    @model_validator(mode="after")
    def _fitting(self) -> Check:
        if self.expectations and self.kind not in TABLES:
            raise ValueError(f"of kind {', '.join(TABLES)} to have `expectations`")
        if (self.columns or self.delimiter) and self.kind != "csv":
            raise ValueError("of kind csv to have `columns` or a `delimiter`")
        for path, digest in self.critical.items():
            if not _DIGEST.fullmatch(digest):
                raise ValueError(f"right: the digest of {path!r} is `sha256:` or `rows:` and 64 hex digits")
        return self
