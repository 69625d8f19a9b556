"""A source with its snapshots and a place to restore to, forged snapshots, small file systems: for restore tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from blake3 import blake3

from compare import compare_trees
from moraine.model.entry import Kind
from moraine.repository.repository import Repository
from moraine.sources.posix_target import PosixTarget
from moraine.steps.restore import Restored, execute_restore
from moraine.steps.restore_plan import RestorePlan, plan_restore
from moraine.stores.memory import MemoryStore
from night import Clock, Night, make_policy, make_repository, open_repository
from rows import manifest

NOBODY = 65534


class World:
    """A source, a repository of its snapshots, and a place to restore to."""

    def __init__(self, folder: Path) -> None:
        self.source, self.out = folder / "source", folder / "out"
        self.store: MemoryStore = MemoryStore()
        self.clock = Clock()
        self.processes = 1
        make_repository(self.store, self.clock)

    @property
    def target(self) -> PosixTarget:
        return PosixTarget(self.out)

    @property
    def repository(self) -> Repository:
        return open_repository(self.store)

    def backup(self) -> str:
        self.clock.advance(hours=1)
        night = Night(
            lambda: self.store, self.source, make_policy(self.source), self.clock, run_id=f"night {self.clock()}"
        )
        return night.all().snapshot

    def plan(self, snapshot: str = "latest", **rules: Any) -> RestorePlan:
        repository = self.repository
        return plan_restore(repository, repository.snapshot(snapshot), target=self.target, **rules)

    def restore(
        self, snapshot: str = "latest", *, verify: bool = True, owners: str = "id", progress: Any = None, **rules: Any
    ) -> Restored:
        plan = self.plan(snapshot, **rules)
        return execute_restore(
            plan, self.repository, self.target, verify=verify, owners=owners, progress=progress,
            processes=self.processes,
        )  # fmt: skip

    def complete(self) -> Iterator[Path]:
        """Files of the target that have their time."""
        for path in self.out.rglob("*"):
            original = self.source / path.relative_to(self.out)
            if path.is_file() and original.exists() and path.stat().st_mtime_ns == original.stat().st_mtime_ns:
                yield path

    def differences(self) -> list[str]:
        return compare_trees(self.source, self.out)


def make_wide(root: Path, large: int) -> None:
    """Directories with small files and one of `large` bytes each, closed to others; no content twice."""
    for number in range(6):
        folder = root / f"dir{number:02d}"
        folder.mkdir(parents=True)
        for n in range(10):
            (folder / f"{n}").write_bytes(os.urandom(30_000))
        (folder / "large").write_bytes(os.urandom(large))
        folder.chmod(0o555)


def make_simple(root: Path) -> None:
    (root / "docs/deep").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "docs/a.txt").write_bytes(b"alpha")
    (root / "docs/b.pdf").write_bytes(b"beta" * 1000)
    (root / "docs/deep/c.txt").write_bytes(b"gamma")
    (root / "top.txt").write_bytes(b"top")
    (root / "large").write_bytes(os.urandom(3 << 20))
    (root / "link").symlink_to("docs/a.txt")
    (root / "docs").chmod(0o751)
    for number, path in enumerate(("docs/deep", "docs", "empty", "")):
        os.utime(root / path, (number, 1_600_000_000 + number))


def tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def allow(path: Path) -> None:
    """Let everybody pass the directories above."""
    for parent in path.parents:
        if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)


Remount = Callable[[str], None]


def mounted(path: Path, options: str) -> Any:
    """A small file system in memory, for the time of a test."""

    def mount(options: str) -> None:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("cannot mount here")

    @contextmanager
    def run() -> Iterator[Remount]:
        mount(options)
        try:
            yield lambda new: mount(f"remount,{new}")
        finally:
            subprocess.run(["umount", path], check=True)

    return run()


class Forged:
    """A repository that holds whatever rows a test writes."""

    def __init__(self, entries: dict[bytes, dict[str, Any]], folder: Path) -> None:
        self.real = make_repository(MemoryStore(), Clock())
        empty = blake3(b"", key=self.real.keyring.id_key).digest()
        root = {b"": {"kind": Kind.DIRECTORY, "nlink": 2, "mode": 0o755}}
        filled = {
            path: {"size": 0, "digest": empty if row.get("kind", Kind.FILE) == Kind.FILE else None, **row}
            for path, row in entries.items()
        }
        self.table = manifest(root | filled)
        self.target = PosixTarget(folder / "out")
        shown = SimpleNamespace(tables=lambda columns, under=None: iter([self.table.select(list(columns))]))
        fake = SimpleNamespace(
            mirror=None,
            manifest=lambda snapshot: shown,
            keyring=self.real.keyring,
            index=self.real.index,
            chunks=self.real.chunks,
        )
        self.repository = cast(Repository, fake)

    def restore(self, **rules: Any) -> Restored:
        snapshot = cast(Any, SimpleNamespace(id="forged"))
        plan = plan_restore(self.repository, snapshot, target=self.target, **rules)
        return execute_restore(plan, self.repository, self.target)


DIRECTORY = {"kind": Kind.DIRECTORY, "mode": 0o755}
