"""Where a file is: every version of the paths that match a glob, over many snapshots.

Columnar up to the hits; memory is bounded by the number of versions found, not by the snapshots looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from moraine.errors import ConfigError
from moraine.model.entry import Kind
from moraine.model.snapshot import SnapshotRecord
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
    """The rows of tables whose path matches the glob; the root never does.

    Raises:
        ConfigError: it is no glob.
    """
    shown = pattern.decode("utf-8", "backslashreplace")
    names = [name for name in pattern.split(b"/") if name not in (b"", b".")]
    if not names:
        raise ConfigError(f"the glob {shown!r} names nothing", hint="for example '*.csv' or 'docs/**/*.md'")
    regex = glob_regex(b"/".join(names), anywhere=not pattern.startswith(b"/"))
    try:
        pc.match_substring_regex(pa.array([b""]), regex)
    except pa.ArrowInvalid as error:
        raise ConfigError(f"{shown!r} is no glob: a set in it has its ends the wrong way round") from error
    for table in tables:
        subject = table["name"] if len(names) == 1 and not pattern.startswith(b"/") else paths(table)
        hits = pc.match_substring_regex(subject, regex, ignore_case=ignore_case)
        hits = pc.and_(hits, pc.not_equal(table["name"], b""))
        if pattern.endswith(b"/"):
            hits = pc.and_(hits, pc.equal(table["kind"], int(Kind.DIRECTORY)))
        yield table.filter(hits)


def paths(table: pa.Table) -> pa.ChunkedArray:
    """The whole path of every row."""
    directory = table["dir"].cast(pa.binary())
    joined = pc.binary_join_element_wise(directory, table["name"], pa.scalar(b"/", pa.binary()))
    return pc.if_else(pc.equal(directory, b""), table["name"], joined)


def glob_regex(pattern: bytes, *, anywhere: bool) -> str:
    """The regular expression of a glob over whole paths, as bytes in Latin-1; the rules are those of `exclude`.

    `*` and `?` stay inside one name, `**` crosses directories, `[…]` and `[!…]` are sets of bytes. Unless it is tied
    to the root, the pattern matches at any depth.
    """
    text = pattern.decode("latin-1")
    parts, at = [], 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        assert found is not None
        parts.append(_translate(found[0]))
        at = found.end()
    return f"(?s)^{'(?:.*/)?' if anywhere else ''}{''.join(parts)}$"


_TOKEN = re.compile(r"(?s)\*\*/|\*\*|\*|\?|\[[!^]?\]?[^\]]*\]|\\.|.")
_FIXED = {
    "**/": "(?:.*/)?",
    "**": ".*",
    "*": "[^/]*",
    "?": "(?:[\\xc2-\\xf4][\\x80-\\xbf]+|[^/])",  # one character, of UTF-8 where it is that
}


def _translate(token: str) -> str:
    if token in _FIXED:
        return _FIXED[token]
    if token.startswith("[") and len(token) > 1:
        negated = token[1] in "!^"
        inside = re.sub(r"[^a-zA-Z0-9-]", lambda found: _byte(found[0]), token[2 if negated else 1 : -1])
        return f"[^/{inside}]" if negated else f"[{inside}]"
    literal = token[1] if token.startswith("\\") and len(token) == 2 else token
    return _byte(literal)


def _byte(letter: str) -> str:
    return letter if letter.isascii() and letter.isalnum() else f"\\x{ord(letter):02x}"
