"""Drives one night step by step, as a scheduler would: outputs are kept, any step can be run again or by a twin."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

from moraine.model.policy import Policy
from moraine.model.policy_file import validate_policy
from moraine.model.window import Window
from moraine.repository import key_slots
from moraine.repository.repository import Repository
from moraine.sources.posix import PosixSource
from moraine.steps.close import close_run
from moraine.steps.commit import Committed, commit
from moraine.steps.copy import copy_shard
from moraine.steps.diff import Diffed, diff_entries
from moraine.steps.gate import gate_changes
from moraine.steps.list import Listed, list_entries
from moraine.steps.open import open_run
from moraine.steps.run import Run, resume_run
from moraine.steps.verify import verify_shard
from moraine.stores.base import Store

PASSPHRASE = b"a test's passphrase"
START = datetime(2026, 11, 1, 2, tzinfo=UTC)


class Clock:
    """A clock that a test moves."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def advance(self, **parts: float) -> None:
        self.now += timedelta(**parts)


def make_repository(store: Store, clock: Callable[[], datetime]) -> Repository:
    """A new encrypted repository; its key stretching is cheap, as tests open it hundreds of times."""
    with patch.dict(key_slots.SCRYPT, n=1 << 4):
        return Repository.create(store, passphrase=PASSPHRASE, now=clock(), entropy=os.urandom)


def open_repository(store: Store) -> Repository:
    """Open it as a new process would."""
    return Repository.open(store, lambda: PASSPHRASE, entropy=os.urandom)


def make_policy(source: Path, name: str = "test", **parts: Any) -> Policy:
    """A policy with everything at its default, but no sampled re-reading, so that runs repeat exactly."""
    fields: dict[str, Any] = {
        "policy": name,
        "source": {"path": str(source)},
        "repository": {"url": "memory://"},
        "rehash": 0.0,
        "gate": {"allow_empty": True, "max_deleted_share": 1.0},
        **parts,
    }
    return validate_policy(fields)


@dataclass
class Night:
    """One run of one policy; every step opens the store anew, as a task in its own process does."""

    store: Callable[[], Store]
    source: Path
    policy: Policy
    clock: Clock
    run_id: str = "dag/manual__1"
    session: tuple[str, int] | None = None
    listed: list[Listed] = field(default_factory=list)
    diffed: Diffed | None = None
    outcomes: dict[int, str] = field(default_factory=dict)
    evidence: dict[int, str] = field(default_factory=dict)
    committed: Committed | None = None

    STEPS = ("open", "list", "diff", "gate", "copy", "verify", "commit", "close")

    def step(self, name: str) -> None:
        """Run one step; its output replaces the one of an earlier attempt."""
        getattr(self, "_" + name)()

    def all(self, steps: Sequence[str] = STEPS) -> Committed:
        """Run the steps in order."""
        for name in steps:
            self.step(name)
        assert self.committed
        return self.committed

    def _run(self, *, committed: bool = False) -> Run:
        assert self.session
        return resume_run(
            open_repository(self.store()),
            self.policy,
            self._source(),
            *self.session,
            clock=self.clock,
            entropy=os.urandom,
            committed=committed,
        )

    def _source(self) -> PosixSource:
        return PosixSource(str(self.source))

    def _open(self) -> None:
        now = self.clock()
        run = open_run(
            open_repository(self.store()),
            self.policy,
            self._source(),
            run=self.run_id,
            window=Window(now - timedelta(days=1), now),
            clock=self.clock,
            entropy=os.urandom,
        )
        self.session = (run.session.id, run.session.attempt)

    def _list(self) -> None:
        run = self._run()
        self.listed = [list_entries(run, shard) for shard in run.source.shards(1)]

    def _diff(self) -> None:
        self.diffed = diff_entries(self._run(), self.listed)

    def _gate(self) -> None:
        assert self.diffed
        gate_changes(self._run(), self.diffed)

    def _copy(self) -> None:
        assert self.diffed
        for shard in self.diffed.shards:
            self.outcomes[shard.number] = copy_shard(self._run(), self.diffed.changes, shard.number).outcome

    def _verify(self) -> None:
        for number, outcome in self.outcomes.items():
            self.evidence[number] = verify_shard(self._run(), outcome).evidence

    def _commit(self) -> None:
        assert self.diffed
        outcomes, evidence = list(self.outcomes.values()), list(self.evidence.values())
        self.committed = commit(self._run(committed=True), self.diffed, outcomes, evidence)

    def _close(self) -> None:
        assert self.session
        close_run(open_repository(self.store()), self.session[0], clock=self.clock)
