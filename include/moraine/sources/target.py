"""The port to where a restore writes. A target takes rows and bytes; it never learns what a chunk or a pack is.

A directory tree and a bucket both fit: paths are the rows' own, whatever the target calls them, and what a target
cannot hold it says in its facts or in notes. Rows cross the port as parallel lists, a directory's or a frame's worth
at a time, so that a target can work in a tight loop. What cannot be done to one entry becomes a note and the restore
goes on; what makes going on pointless (no space, a path that leads outside) is raised.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, field
from enum import IntEnum
from typing import Any, Protocol

import pyarrow as pa

from moraine.model.entry import display_path
from moraine.model.record import dataclass

SAMPLES = 1000  # notes kept of each code; all are counted

FOUND = pa.schema(
    [
        pa.field("kind", pa.uint8()),  # 0: nothing is there
        pa.field("size", pa.int64()),
        pa.field("mode", pa.uint32()),  # null: a directory of which the target keeps no attributes
        pa.field("uid", pa.uint32()),
        pa.field("gid", pa.uint32()),
        pa.field("mtime", pa.int64()),
        pa.field("mtime_ns", pa.int32()),
        pa.field("rdev", pa.uint64()),
        pa.field("target", pa.binary()),
        pa.field("xattrs", pa.binary()),
        pa.field("unfinished", pa.bool_()),  # a directory that a restore made and has not finished
        pa.field("content", pa.bool_()),  # whether a file's content is the row's; null: size and time tell
        pa.field("attributes", pa.bool_()),  # of an object, whether headers and metadata are the row's; else null
    ]
)


LOOKED_FOR = ("name", "kind", "inode", "xattrs", "digest")  # columns of what a target is asked for


class Verdict(IntEnum):
    """What a plan says about one row."""

    UNSELECTED = 0
    CREATE = 1  # nothing is there
    REPLACE = 2  # something else is there and gives way
    REPLACE_TREE = 3  # a directory is there and gives way with all that is in it
    REFRESH = 4  # the content is right, attributes are not
    SAME = 5
    KEEP = 6  # the overwrite rule keeps what is there
    CONFLICT = 7  # what is there is in the way and may not be touched
    ABSENT = 8  # the snapshot has no content for it
    MERGE = 9  # the directory is there and gets the row's attributes at the end
    PASS = 10  # the directory is there and stays as it is
    STAY = 11  # as MERGE, but its attributes are right as yet


class Code:
    """Codes of notes."""

    CONFLICT = "conflict"
    ABSENT = "not-captured"
    DAMAGED = "damaged"
    FAILED = "failed"
    SPECIAL = "device-skipped"
    OWNER = "owner-kept"
    ATTRIBUTE = "attribute-refused"
    PRIVILEGE = "setuid-dropped"
    TIME = "time-clamped"
    COPIED = "link-copied"
    EXTRA = "extra-kept"
    EMPTY = "directory-left-out"
    HOLES = "holes-filled"
    UPLOADS = "uploads-unknown"
    DIFFERS = "differs"


INCOMPLETE = frozenset({Code.CONFLICT, Code.ABSENT, Code.FAILED, Code.SPECIAL, Code.EXTRA, Code.DIFFERS, Code.DAMAGED})


@dataclass(frozen=True, slots=True)
class Note:
    """Something that did not go as the snapshot has it."""

    code: str
    path: str  # for display; empty when it is about the whole target
    message: str


@dataclass(slots=True)
class Notes:
    """Notes of one restore: all counted, the first of each code kept."""

    counts: dict[str, int] = field(default_factory=dict)
    kept: list[Note] = field(default_factory=list)
    said: set[str] = field(default_factory=set)  # messages of which one was to be kept, and is

    def add(self, code: str, path: bytes, message: str, *, once: bool = False) -> None:
        """One more; the first of a code are kept, or with `once` the first that says so."""
        count = self.counts[code] = self.counts.get(code, 0) + 1
        if count > SAMPLES or (once and message in self.said):
            return
        self.kept.append(Note(code, display_path(path), message))
        if once:
            self.said.add(message)

    def take(self, other: Notes) -> None:
        """All notes of another, as far as there is room for them."""
        held = Counter(note.code for note in self.kept)
        for note in other.kept:
            held[note.code] += note.message not in self.said
            if note.message not in self.said and held[note.code] <= SAMPLES:
                self.kept.append(note)
        self.said |= other.said
        for code, count in other.counts.items():
            self.counts[code] = self.counts.get(code, 0) + count

    def incomplete(self) -> bool:
        """Whether something of the snapshot is not in the target as it should be."""
        return not INCOMPLETE.isdisjoint(self.counts)

    def to_list(self) -> list[dict[str, Any]]:
        """JSON form of the kept ones."""
        return [asdict(note) for note in self.kept]


@dataclass(slots=True)
class Rows:
    """Entries to be written: parallel lists. Equal directories are the same object where they can be."""

    dir: list[bytes]
    name: list[bytes]
    kind: list[int]
    verdict: list[int]
    size: list[int]
    mode: list[int]
    uid: list[int]
    gid: list[int]
    owner: Sequence[str | None]
    group: Sequence[str | None]
    time: list[int]  # ns since 1970, exact: may not fit 64 bits
    rdev: list[int]
    inode: list[int]
    target: Sequence[bytes | None]
    xattrs: Sequence[bytes | None]
    extents: Sequence[bytes | None]
    digest: Sequence[bytes | None]

    def __len__(self) -> int:
        return len(self.name)


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """What a look at the target says before anything is written."""

    exists: bool
    empty: bool
    free: int | None  # bytes; None where it is not known
    owners: bool  # owners can be set
    xattrs: bool = True  # extended attributes can be kept
    directories: bool = True  # directories are entries of their own, not only what paths have in common


@dataclass(frozen=True, slots=True)
class Extra:
    """An entry of the target that the snapshot does not have; a directory stands for all that is in it."""

    dir: bytes
    name: bytes
    kind: int
    entries: int
    bytes: int
    place: str = ""  # what the target itself calls it, if that is not the path


class Asked(Protocol):
    """What a restore was asked for (`engine.selection.Selection`)."""

    @property
    def under(self) -> bytes:
        """A directory or entry that holds all of it."""

    def covers(self, directory: bytes) -> bool:
        """Whether a directory is meant with all that is in it, also what the snapshot does not have."""

    def excludes(self, path: bytes) -> bool:
        """Whether a path is left out on purpose."""


class Beside(Protocol):
    """Finds what the target has and the snapshot has not. It is told of every directory that both have."""

    def known(self, directory: bytes, names: Sequence[bytes], kinds: Sequence[int]) -> None:
        """Some entries that the snapshot has in a directory; calls come in manifest order."""

    def extras(self, there: Iterable[bytes]) -> list[Extra]:
        """What else is there; `there` are all directories that both have: some have no entry in the snapshot."""


class Content(Protocol):
    """A restored file, open for reading."""

    size: int

    def read_at(self, offset: int, view: memoryview) -> int:
        """Fill `view` from `offset`; fewer bytes only at the end."""

    def close(self) -> None:
        """Close it."""


class TargetReader(Protocol):
    """Looks at what is in the target, before a restore or after it. Follows no symlink."""

    def look(self, directory: bytes, rows: pa.Table) -> pa.RecordBatch:
        """What is in the places of some rows (LOOKED_FOR) of a directory that is there: FOUND, row by row."""

    def beside(self, asked: Asked) -> Beside:
        """Get ready to find extras inside what was asked for."""

    def open(self, directory: bytes, name: bytes) -> Content | None:
        """A regular file; None where there is none that can be read."""


class TargetWriter(Protocol):
    """Writes entries. Directories come before what is in them. One thread calls everything, except for content.

    `span`: None when `files` to `abandon` may be called by several threads at once, with pieces of large files in any
    order at all. Otherwise large files come one after the other, and only within so many bytes in any order: for a
    target that writes front to back.
    """

    notes: Notes

    @property
    def span(self) -> int | None:
        """See above."""

    @property
    def counts(self) -> dict[str, int]:
        """Entries so far: files, directories, others, links, refreshed, deleted; and the stored bytes of files."""

    def directories(self, rows: Rows) -> None:
        """Make directories, or make ready those that are there."""

    def nodes(self, rows: Rows) -> None:
        """Make symlinks, FIFOs and devices."""

    def files(self, rows: Rows, data: memoryview, at: list[int], size: list[int]) -> None:
        """Write whole files: the stored bytes of row i are `data[at[i] : at[i] + size[i]]`."""

    def begin(self, number: int, row: Rows, pieces: int) -> None:
        """Start the one file of `row`, known as `number` from here on, that comes in `pieces`; only the first time."""

    def begun(self, number: int) -> bool:
        """Whether `begin` was called for `number`."""

    def write(self, number: int, offset: int, data: memoryview) -> None:
        """A piece of its stored bytes; the last piece completes the file."""

    def abandon(self, number: int) -> None:
        """Leave no trace of a file that cannot be completed."""

    def links(self, rows: Rows, leaders: list[tuple[bytes, bytes]]) -> None:
        """Make row i a hard link of the file at `leaders[i]` (dir, name); equal leaders stand together."""

    def refresh(self, rows: Rows) -> None:
        """Set the attributes of entries whose content is right."""

    def remove(self, extra: Extra) -> None:
        """Remove an extra, with all that is in it."""

    def finish(self, rows: Rows) -> None:
        """Set the attributes of directories; called with rows in reverse manifest order."""


class Target(Protocol):
    """Where a restore writes."""

    @property
    def url(self) -> str:
        """The target as a person would write it."""

    def probe(self) -> TargetFacts:
        """Look at the target; writes nothing."""

    def reader(self) -> AbstractContextManager[TargetReader]:
        """Open a target that exists for looking."""

    def writer(self, *, owners: str = "id") -> AbstractContextManager[TargetWriter]:
        """Open for writing; `owners`: by `id`, by `name` where the target knows it, or `keep` the writing user's."""
