"""The port to a mirror: a plain tree that a run keeps like its source, and the trash beside it.

New content is staged aside and appears under its name complete, at `flush`; whatever it replaces is in the trash
before. A mirror that cannot hold an entry says so in `notes`, and the run goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

import pyarrow as pa

from moraine.model.entry import Kind
from moraine.model.record import dataclass
from moraine.sources.target import Content, Notes, Rows


@dataclass(frozen=True, slots=True)
class MirrorFacts:
    """What a look at the mirror says before anything is written."""

    exists: bool
    empty: bool  # but for what the mirror knows of itself
    owners: bool = True  # owners can be set


# (dir, name) → the file, open for reading; None where there is none that can be read
LookAt = Callable[[bytes, bytes], Content | None]


class Staged(Protocol):
    """A file on its way, not visible yet."""

    def write(self, offset: int, data: memoryview) -> None:
        """Some of its bytes; offsets only grow, what is left out is a hole."""

    def complete(self, rows: Rows, i: int, token: int, digest: bytes) -> None:
        """It has all its bytes: give it its attributes; it appears at the next `flush`."""

    def discard(self) -> None:
        """Leave no trace of it."""


class MirrorWriter(Protocol):
    """Writes into a mirror; for one thread. `token` says which entry a refusal at `flush` is about."""

    notes: Notes

    def expect(self, files: Iterable[tuple[bytes, bytes]]) -> None:
        """The first file of each directory (dir, name) that files come from next, in this order."""

    def stands(self, rows: Rows, i: int) -> Content | None:
        """The file that is there, if it has the size and time of the row: then its content is worth a look."""

    def directory(self, rows: Rows, i: int) -> None:
        """Make a directory, or make sure that one is there; its attributes come with `finish`."""

    def node(self, rows: Rows, i: int, token: int) -> None:
        """Stage a symlink, FIFO, device or socket; one that stands already only gets its attributes."""

    def file(self, rows: Rows, i: int) -> Staged:
        """Begin a file."""

    def refresh(self, rows: Rows, i: int) -> None:
        """Set the attributes of an entry whose content is right."""

    def flush(self) -> list[int]:
        """Make what is staged durable, then visible; the tokens of what was refused."""

    def link(self, rows: Rows, i: int, leader: tuple[bytes, bytes]) -> bool:
        """Make an entry one more name of the file at `leader` (dir, name), at once; False, and noted, if it cannot."""

    def remove(self, directory: bytes, name: bytes) -> None:
        """Move an entry, with all that is in it, to the trash."""

    def finish(self, rows: Rows, i: int, *, attributes: bool) -> None:
        """Set the attributes of a directory; without `attributes` only what a listing shows of it."""

    def settle(self) -> None:
        """Make everything durable."""


class Mirror(Protocol):
    """A mirror. It is looked at like a source, so that a listing of both can be compared row by row."""

    @property
    def url(self) -> str:
        """The mirror as a person would write it."""

    kinds: frozenset[Kind]  # what the tree itself can hold; the inventory holds the rest
    links: bool  # several names can be one file
    width: int  # files that may be read side by side

    def probe(self) -> MirrorFacts:
        """Look at it; writes nothing."""

    def entries(self) -> Iterator[pa.RecordBatch]:
        """What is in the tree: INVENTORY rows in manifest order, without what the mirror knows of itself."""

    def reader(self) -> AbstractContextManager[LookAt]:
        """Open the tree for reading files."""

    def trashes(self) -> list[str]:
        """The names of all trashes, oldest first."""

    def trash(self, name: str) -> AbstractContextManager[LookAt]:
        """Open a trash for reading files."""

    def purge(self, before: datetime) -> list[str]:
        """Remove trashes from before that time; their names."""

    def sweep(self, working: Collection[str]) -> None:
        """Remove what killed runs have left aside; `working` begins the marks of those that may still be at work."""

    def writer(self, trash: str, mark: str) -> AbstractContextManager[MirrorWriter]:
        """Open for writing.

        Args:
            trash: where what gives way goes; made when the first entry does.
            mark: names this writer; no other one has it.
        """


def trash_name(at: datetime, session: str, attempt: int) -> str:
    """The name of a run's trash: names sort by time."""
    return f"{at:%Y-%m-%dT%H-%M-%SZ}-{session[-6:]}-{attempt}"


def trash_time(name: str) -> datetime | None:
    """When a trash was begun; None when this is no trash of ours."""
    try:
        return datetime.strptime(name[:20] + "+0000", "%Y-%m-%dT%H-%M-%SZ%z")
    except ValueError:
        return None
