"""Drives nights of a mirror, and says how it differs from its source."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from compare import compare_trees, rsync_differences
from moraine.model.policy import Policy
from moraine.model.policy_file import validate_policy
from moraine.model.policy_mirror import STATE
from moraine.repository.repository import Repository
from moraine.sources.mirror import Mirror
from moraine.steps.backup import Holder
from moraine.steps.mirror import Mirrored, mirror, open_state
from moraine.steps.mirror_place import open_mirror
from moraine.steps.source import open_source
from moraine.stores.base import Store
from moraine.stores.memory import MemoryStore
from moraine.stores.open import open_store

NIGHT = datetime(2026, 11, 1, 2, tzinfo=UTC)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def advance(self, **parts: float) -> None:
        self.now += timedelta(**parts)


def mirror_policy(source: Path | dict[str, Any], to: Path | dict[str, Any], **parts: Any) -> Policy:
    """A mirror policy with sampled re-reading off and the gate open, so that runs repeat exactly."""
    fields: dict[str, Any] = {
        "policy": "mirror",
        "source": {"path": str(source)} if isinstance(source, Path) else source,
        "destination": {"url": str(to)} if isinstance(to, Path) else to,
        "rehash": 0.0,
        "gate": {"allow_empty": True, "max_deleted_share": 1.0},
        "verify": {"depth": "full"},
        **parts,
    }
    return validate_policy(fields)


class Nights:
    """One mirror, night after night; every night opens everything anew."""

    def __init__(self, source: Path, to: Path, **parts: Any) -> None:
        self.source, self.to = source, to
        self.policy = mirror_policy(source, to, **parts)
        self.clock = Clock()

    @property
    def mirror(self) -> Mirror:
        found = open_mirror(self.policy)
        assert found
        return found

    @property
    def store(self) -> Store:
        return open_store(self.policy.repository.url)

    @property
    def repository(self) -> Repository:
        return open_state(self.store, None, self.mirror, clock=self.clock, entropy=os.urandom)

    def night(self, *, mark: str = "1", alive: bool = False, **flags: Any) -> Mirrored:
        self.clock.advance(hours=24)
        holder = Holder("host", mark, lambda mark: alive)
        return mirror(
            self.repository,
            self.policy,
            open_source(self.policy),
            clock=self.clock,
            entropy=os.urandom,
            holder=holder,
            work=MemoryStore(),
            **flags,
        )

    def differences(self) -> list[str]:
        return mirror_differences(self.source, self.to)

    def seen(self) -> list[str]:
        """Where the mirror is written down as a run has seen it."""
        return sorted(str(path) for path in (self.to / STATE / "mirror").rglob("seen-*"))

    def trashed(self) -> list[str]:
        """The paths in all trashes, oldest trash first."""
        trash = self.to / STATE / "trash"
        return [str(path.relative_to(trash / name)) for name in self.mirror.trashes()
                for path in sorted((trash / name).rglob("*")) if path.is_symlink() or not path.is_dir()]  # fmt: skip


def mirror_differences(source: Path, to: Path) -> list[str]:
    """How a mirror differs from its source, by two who know nothing of each other; its own folder is put aside."""
    aside, before = to.parent / "state-aside", to.stat()
    (to / STATE).rename(aside)
    os.utime(to, ns=(before.st_atime_ns, before.st_mtime_ns))
    try:
        return compare_trees(source, to) + rsync_differences(source, to, exclude=["/deep"])  # beyond rsync's paths
    finally:
        aside.rename(to / STATE)
        os.utime(to, ns=(before.st_atime_ns, before.st_mtime_ns))
