"""The ports to what is backed up. A source lists entries as Arrow batches and hands out their bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, Protocol

from moraine.model.record import dataclass

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class ListShard:
    """A part of the source that one `list` task walks: a contiguous range in manifest order.

    It is made of the directories from `roots[0]` up to, but without, `stop_at[0]`; so the rows of all shards, joined in
    shard order, are in manifest order.
    """

    name: str
    roots: tuple[bytes, ...] = (b"",)
    stop_at: tuple[bytes, ...] = ()


class Stamp(NamedTuple):
    """What tells whether a file is still the one that was listed: bytes, ns since 1970, ns, inode number."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


class Wanted(NamedTuple):
    """A file that will be opened."""

    directory: bytes
    name: bytes
    size: int  # as it was listed
    version: bytes | None  # as the listing named it, if the source keeps several


@dataclass(slots=True)
class Attributes:
    """What a listing does not see: read once per changed entry."""

    target: bytes | None = None
    xattrs: bytes | None = None
    owner: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What the probe at `open` saw."""

    root: str
    device: int
    history: timedelta | None = None  # how far back it can be read as of a time in the past; None: not at all
    notes: tuple[str, ...] = ()
    info: dict[str, str] = field(default_factory=dict)


class OpenFile(Protocol):
    """One file being read, front to back. Every method raises SourceVanished, SourceDenied or SourceError."""

    stamp: Stamp  # as it was opened, or listed if that was taken for granted

    def extents(self) -> list[tuple[int, int]] | None:
        """(offset, length) of the parts that hold data; None when the file has no holes."""

    def readinto(self, view: memoryview) -> int:
        """Fill `view` with the next stored bytes, holes left out; 0 at the end."""

    def skip(self, count: int) -> None:
        """Leave out the next `count` stored bytes: another attempt has read them."""

    def finish(self) -> Stamp:
        """The stamp once more, then close. A different stamp means that the file changed while it was read."""

    def close(self) -> None:
        """Close without looking again; closing twice is fine."""


class Reader(Protocol):
    """Reads entries of a source; made for rows that come in manifest order. Not shared between threads."""

    def expect(self, wanted: list[Wanted]) -> None:
        """The files that are opened next, in about this order: a reader may fetch ahead, and knows which version."""

    def open(self, directory: bytes, name: bytes, listed: Stamp | None = None) -> OpenFile:
        """Open a regular file; never follows a symlink, never blocks on a FIFO or device.

        With `listed` a reader may take it for a file without holes that has this stamp: who reads it has to see that
        `finish` returns the same, or read it again without.
        """

    def attributes(self, directory: bytes, name: bytes, kind: int, uid: int, gid: int) -> Attributes:
        """Symlink target, extended attributes, owner names."""


class Source(Protocol):
    """Something that can be backed up."""

    kind: str

    def probe(self) -> SourceFacts:
        """Look at the source before anything is written. Raises SourceMissing, SourceUnmounted, SourceDenied."""

    def as_of(self, at: datetime) -> Source:
        """The source as it was just before `at`, if it has a history; else as it is."""

    def shards(self, want: int) -> list[ListShard]:
        """Split the listing into about `want` parts, breadth first; one is fine."""

    def list(self, shard: ListShard) -> Iterator[pa.RecordBatch]:
        """Entries of the shard: batches of `model.schemas.INVENTORY`, rows in manifest order.

        A source that keeps several versions of an entry adds the column `model.schemas.VERSION`.
        """

    def reader(self) -> AbstractContextManager[Reader]:
        """Open a reader."""

    def remarks(self) -> tuple[str, ...]:
        """What people should know of what the last listing met."""
