"""Manifest rows as objects for printing: one `Entry` per row, made only for rows that are shown.

Owns the JSON form of an entry. Everything that looks at all rows of a snapshot works on Arrow tables instead.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pyarrow as pa

from moraine.model import compute as pc
from moraine.model.entry import Kind, State, display_path, join_path

COLUMNS = (
    "dir", "name", "kind", "size", "mode", "uid", "gid", "mtime", "mtime_ns", "nlink", "rdev", "state",
    "owner", "group", "target", "digest",
)  # fmt: skip

KIND_NAMES = {int(kind): kind.name.lower().replace("_", "-") for kind in Kind}
STATE_NAMES = {int(state): state.name.lower() for state in State}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Entry(NamedTuple):
    """One entry of a snapshot."""

    dir: bytes
    name: bytes
    kind: int
    size: int
    mode: int
    uid: int
    gid: int
    mtime: int
    mtime_ns: int
    nlink: int
    rdev: int
    state: int
    owner: str | None
    group: str | None
    target: bytes | None
    digest: bytes | None

    @property
    def path(self) -> bytes:
        """Relative to the root; empty for the root."""
        return join_path(self.dir, self.name)

    @property
    def modified(self) -> datetime | None:
        """`mtime` as an instant; None beyond the years Python counts."""
        return instant(self.mtime, self.mtime_ns)

    def to_dict(self) -> dict[str, Any]:
        """JSON form; bytes that are not text also come as base64."""
        data = path_fields("path", self.path) | {
            "kind": KIND_NAMES[self.kind],
            "size": self.size,
            "mode": f"{self.mode:04o}",
            "uid": self.uid,
            "gid": self.gid,
            "owner": self.owner,
            "group": self.group,
            "mtime": time_text(self.mtime, self.mtime_ns),
            "state": STATE_NAMES[self.state],
        }
        if self.target is not None:
            data |= path_fields("target", self.target)
        if self.kind == Kind.FILE:
            data["digest"] = self.digest.hex() if self.digest else None
        return data


def iter_entries(tables: Iterable[pa.Table]) -> Iterator[Entry]:
    """The rows of tables that hold `COLUMNS`, in order."""
    for table in tables:
        for batch in table.select(COLUMNS).to_batches(max_chunksize=4096):
            yield from map(Entry._make, zip(*(pc.plain(column).to_pylist() for column in batch.columns), strict=True))


def path_fields(name: str, path: bytes) -> dict[str, str]:
    """A path in JSON: as text that is safe to print, and as base64 where that text is not the exact bytes."""
    text = display_path(path)
    exact = text.encode() == path
    return {name: text} if exact else {name: text, f"{name}_b64": b64encode(path).decode()}


def instant(seconds: int, nanoseconds: int) -> datetime | None:
    """The instant of a file time, to the microsecond; None beyond the years 1 to 9999."""
    try:
        return _EPOCH + timedelta(seconds=seconds, microseconds=nanoseconds // 1000)
    except OverflowError:
        return None


def time_text(seconds: int, nanoseconds: int) -> str:
    """RFC 3339 in UTC with all nine digits; `@seconds` beyond the years 1 to 9999."""
    moment = instant(seconds, 0)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09}Z" if moment else f"@{seconds}.{nanoseconds:09}"
