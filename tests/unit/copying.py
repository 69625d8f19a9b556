"""Sets a copy step up over a real tree, and reads its rows' content back through the packs it wrote."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa

from moraine.model.schemas import MANIFEST
from moraine.model.window import Window
from moraine.repository import key_slots
from moraine.repository.repository import Repository
from moraine.repository.tables import LOCATION
from moraine.sources.base import Attributes, OpenFile, Reader, Stamp, Wanted
from moraine.sources.posix import PosixSource
from moraine.steps.copy import Copied, copy_shard
from moraine.steps.diff import diff_entries
from moraine.steps.list import list_entries
from moraine.steps.open import open_run
from moraine.steps.run import Run
from moraine.stores.base import Store
from moraine.stores.memory import MemoryStore
from night import make_policy, make_repository, open_repository


def later() -> datetime:
    """A clock well behind every file of a test, so that none counts as racy."""
    return datetime.now(UTC) + timedelta(hours=1)


@dataclass
class MeddlingFile:
    """A file during whose reading something happens."""

    inner: OpenFile
    before_read: Callable[[], None]
    before_finish: Callable[[], None]
    left: float  # bytes until it pretends to end

    @property
    def stamp(self) -> Stamp:
        return self.inner.stamp

    def extents(self) -> list[tuple[int, int]] | None:
        return self.inner.extents()

    def readinto(self, view: memoryview) -> int:
        self.before_read()
        count = min(self.inner.readinto(view), int(min(self.left, len(view))))
        self.left -= count
        return count

    def skip(self, count: int) -> None:
        self.inner.skip(count)

    def finish(self) -> Stamp:
        self.before_finish()
        return self.inner.finish()

    def close(self) -> None:
        self.inner.close()


@dataclass
class MeddlingSource:
    """The tree at `path`, with hooks that take the name of the file at hand."""

    path: Path
    before_open: Callable[[bytes], None] = lambda name: None
    before_read: Callable[[bytes], None] = lambda name: None
    before_finish: Callable[[bytes], None] = lambda name: None
    before_attributes: Callable[[bytes], None] = lambda name: None
    ends_after: float = float("inf")
    opened: list[bytes] = field(default_factory=list)
    kind: str = "posix"

    def __post_init__(self) -> None:
        self.inner = PosixSource(self.path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        with self.inner.reader() as reader:
            self._reader = reader
            yield self  # type: ignore[misc]

    def as_of(self, at: datetime) -> MeddlingSource:
        return self

    def expect(self, wanted: list[Wanted]) -> None:
        self._reader.expect(wanted)

    def open(self, directory: bytes, name: bytes, listed: Stamp | None = None) -> OpenFile:
        self.opened.append(name)
        self.before_open(name)
        file = self._reader.open(directory, name, listed)
        return MeddlingFile(file, lambda: self.before_read(name), lambda: self.before_finish(name), self.ends_after)

    def attributes(self, directory: bytes, name: bytes, kind: int, uid: int, gid: int) -> Attributes:
        self.before_attributes(name)
        return self._reader.attributes(directory, name, kind, uid, gid)


@dataclass
class Copying:
    """A run of one policy up to its change set."""

    tree: Path
    store: Store = field(default_factory=MemoryStore)
    parts: dict[str, Any] = field(default_factory=dict)
    source: Any = None
    clock: Callable[[], datetime] = later
    changes: str = ""

    def __post_init__(self) -> None:
        if not any(True for _ in self.store.list("")):
            with patch.dict(key_slots.SCRYPT, n=1 << 4):
                make_repository(self.store, self.clock)
        self.source = self.source or MeddlingSource(self.tree)
        self.repository: Repository = open_repository(self.store)
        now = self.clock()
        self.run: Run = open_run(
            self.repository,
            make_policy(self.tree, **self.parts),
            self.source,
            run="test",
            window=Window(now, now),
            clock=self.clock,
            entropy=os.urandom,
        )
        listed = [list_entries(self.run, shard) for shard in self.source.shards(1)]
        self.changes = diff_entries(self.run, listed).changes

    def copy(self, shard: int = 0) -> Copied:
        """Run the step."""
        return copy_shard(self.run, self.changes, shard)

    def outcome(self, copied: Copied) -> dict[str, Any]:
        """The outcome's document."""
        document: dict[str, Any] = self.run.work.load_json(copied.outcome)
        return document

    def rows(self, copied: Copied) -> dict[bytes, dict[str, Any]]:
        """The result rows by name."""
        tables = [self.run.work.load_table(ref) for ref in self.outcome(copied)["results"]]
        rows = pa.concat_tables([MANIFEST.empty_table(), *tables]).to_pylist()
        assert len({(row["dir"], row["name"]) for row in rows}) == len(rows)
        return {row["name"]: row for row in rows}

    def locations(self, copied: Copied) -> pa.Table:
        """All places the outcome tells of."""
        tables = [self.run.work.load_table(ref) for ref in self.outcome(copied)["locations"]]
        return pa.concat_tables([LOCATION.empty_table(), *tables])

    def stored(self, copied: Copied) -> dict[bytes, bytes]:
        """All chunks the outcome tells of, by id."""
        table = self.locations(copied)
        ids = table["id"].to_pylist()
        chunks: dict[bytes, bytes] = {}
        for frame in self.repository.chunks.read(table):
            for row, at, size in zip(frame.rows, frame.at, frame.size, strict=True):
                chunks[ids[row]] = bytes(frame.data[at : at + size])
        return chunks

    def replace(self, **columns: Sequence[Any]) -> None:
        """Put other values into columns of the (one) piece of the change set."""
        (table,) = self.run.work.load_pieces(self.changes)
        for name, values in columns.items():
            place = table.schema.get_field_index(name)
            table = table.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))
        self.changes = self.run.work.save_pieces(self.run.unique("changes/replaced"), [(0, table)])


def file_bytes(row: dict[str, Any], chunks: dict[bytes, bytes], empty: bytes) -> bytes:
    """The stored bytes of a row."""
    if row["chunks"]:
        return b"".join(chunks[chunk] for chunk in row["chunks"])
    return b"" if row["digest"] == empty else chunks[row["digest"]]


def noise(size: int, seed: int = 0) -> bytes:
    """Incompressible bytes."""
    return np.random.default_rng(seed).bytes(size)
