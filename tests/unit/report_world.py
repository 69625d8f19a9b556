"""A small repository that the tests of read models look at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from moraine.repository.repository import Repository
from moraine.steps.backup import Holder, backup
from moraine.steps.source import open_source
from moraine.stores.memory import MemoryStore
from night import Clock, make_policy, make_repository


class World:
    """A repository with two nights of one policy and one of another."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.store = MemoryStore()
        self.repository = make_repository(self.store, self.clock)
        self.root = folder / "lake"
        (self.root / "docs" / "deep").mkdir(parents=True)
        (self.root / "empty").mkdir()
        for path, content in {"a.csv": b"1,2", "docs/b.csv": b"3" * 50, "docs/deep/c.md": b"# c", "gone": b"x"}.items():
            (self.root / path).write_bytes(content)
        (self.root / os.fsdecode(b"odd\xff\n")).write_bytes(b"odd")
        os.symlink("a.csv", self.root / "docs" / "link")
        self.first = self.night("lake")
        (self.root / "a.csv").write_bytes(b"1,2,3,4")
        (self.root / "gone").unlink()
        (self.root / "docs" / "new.txt").write_bytes(b"new")
        (self.root / "docs" / "b.csv").chmod(0o600)
        self.second = self.night("lake")
        self.other = self.night("pond")

    def night(self, name: str) -> str:
        self.clock.advance(days=1)
        policy = make_policy(self.root, name)
        return backup(
            self.repository,
            policy,
            open_source(policy),
            clock=self.clock,
            entropy=os.urandom,
            holder=Holder("h", "m", lambda _: True),
            work=MemoryStore(),
        ).snapshot

    def manifest(self, snapshot: str) -> Any:
        return self.repository.manifest(self.repository.snapshot(snapshot))


class Watched:
    """Counts which manifests are read, and with which columns."""

    def __init__(self, repository: Repository) -> None:
        self.inner, self.read = repository, []  # type: ignore[var-annotated]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def manifest(self, snapshot: Any) -> Any:
        return WatchedManifest(self, snapshot)


class WatchedManifest:
    def __init__(self, watched: Watched, snapshot: Any) -> None:
        self.watched, self.snapshot = watched, snapshot

    def tables(self, columns: list[str]) -> Iterator[pa.Table]:
        self.watched.read.append((self.snapshot.id, columns))
        return self.watched.inner.manifest(self.snapshot).tables(columns)  # type: ignore[no-any-return]
