"""Where a file is: every version of the paths that match a glob, over many snapshots.

Columnar up to the hits; memory is bounded by the number of versions found, not by the snapshots looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import field
from typing import Any

import pyarrow as pa

from moraine.engine.globs import glob_regex
from moraine.errors import ConfigError
from moraine.model import compute as pc
from moraine.model.entry import Kind
from moraine.model.record import dataclass
from moraine.model.snapshot import SnapshotRecord
from moraine.report.columns import join_paths
from moraine.report.entries import COLUMNS, Entry, iter_entries
from moraine.repository.repository import Repository


@dataclass(slots=True)
class Version:
    """One version of one path, and the snapshots that hold it, in the order they were asked for."""

    entry: Entry
    snapshots: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return self.entry.to_dict() | {"snapshots": self.snapshots}


def find_versions(
    repository: Repository, records: Iterable[SnapshotRecord], pattern: bytes, *, ignore_case: bool = False
) -> list[Version]:
    """All versions of all paths that match, sorted by path; of one path in the order of `records`."""
    versions: dict[tuple[Any, ...], Version] = {}
    for record in records:
        manifest = repository.manifest(repository.snapshot(record.id))
        for entry in iter_entries(matching(manifest.tables(COLUMNS), pattern, ignore_case=ignore_case)):
            identity = (entry.path, entry.kind, entry.size, entry.mtime, entry.mtime_ns, entry.digest, entry.target)
            versions.setdefault(identity, Version(entry)).snapshots.append(record.id)
    return sorted(versions.values(), key=lambda version: version.entry.path)


def matching(tables: Iterable[pa.Table], pattern: bytes, *, ignore_case: bool = False) -> Iterator[pa.Table]:
    """The rows of tables that match a glob, by the rules of `exclude`; the root never does.

    It matches at any depth unless it begins with a slash; one that ends with a slash means directories.

    Raises:
        ConfigError: it is no glob.
    """
    names = [name for name in pattern.split(b"/") if name not in (b"", b".")]
    if not names:
        raise ConfigError("the glob names nothing", hint="for example '*.csv' or 'docs/**/*.md'")
    anywhere = "" if pattern.startswith(b"/") else "(?:.*/)?"
    regex = rf"(?s)\A{anywhere}{glob_regex(b'/'.join(names))}\z"
    for table in tables:
        subject = table["name"] if anywhere and len(names) == 1 else join_paths(table)
        hits = pc.match_substring_regex(subject, regex, ignore_case=ignore_case)
        hits = pc.and_(hits, pc.not_equal(table["name"], b""))
        if pattern.endswith(b"/"):
            hits = pc.and_(hits, pc.equal(table["kind"], int(Kind.DIRECTORY)))
        yield table.filter(hits)
