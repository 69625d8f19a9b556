"""Any interleaving of edits, steps, crashes, retries, twins, forgetting and corruption, against a model.

The invariant: every committed snapshot that was not forgotten restores equal to the tree it was taken of. The steps,
the source and the files are the real ones; only the store lives in memory, so that it can be made to fail.
"""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from moraine.errors import IntegrityError, RepositoryError
from moraine.steps.check import check_repository
from moraine.steps.retain import retain
from moraine.stores.fault import Crash, FaultStore
from moraine.stores.memory import MemoryStore
from night import Clock, Night, make_policy, make_repository, open_repository
from restored import assert_restores, assert_restores_or_tells

NAMES = st.sampled_from(["a", "b", "sub/c", "sub/d", "sub/deep/e", "x-y", "caf\u00e9"])
CONTENT = st.one_of(
    st.binary(max_size=40),
    st.integers(0, 3).map(lambda n: bytes([n]) * 300_000),
    st.integers(0, 2).map(lambda n: bytes([n, 7]) * 900_000),
)
POLICIES = ("first", "second")


class Machine(RuleBasedStateMachine):
    """Two policies over one tree and one repository."""

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="machine-"))
        self.source = self.folder / "source"
        self.source.mkdir()
        self.clock = Clock()
        self.store = MemoryStore()
        make_repository(self.store, self.clock)
        self.nights: dict[str, Night] = {}
        self.done: dict[str, int] = {}
        self.trees: dict[str, Path] = {}  # session → copy of the tree as it was when listed
        self.expected: dict[str, Path] = {}  # live snapshot → its tree
        self.runs = 0

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.everything_restores()
            shutil.rmtree(self.folder)

    # --- the tree; edits wait for a moment in which no run is between listing and copying it

    def quiet(self) -> bool:
        return all(self.done[name] <= 1 or self.done[name] >= 5 for name in self.nights)

    @precondition(lambda self: self.quiet())
    @rule(name=NAMES, content=CONTENT)
    def write(self, name: str, content: bytes) -> None:
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.clock.advance(seconds=5)

    @precondition(lambda self: self.quiet())
    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        (self.source / name).unlink(missing_ok=True)

    @precondition(lambda self: self.quiet())
    @rule(old=NAMES, new=NAMES)
    def rename(self, old: str, new: str) -> None:
        if (self.source / old).exists():
            (self.source / new).parent.mkdir(parents=True, exist_ok=True)
            (self.source / old).rename(self.source / new)

    @precondition(lambda self: self.quiet())
    @rule(name=NAMES, mode=st.sampled_from([0o600, 0o644, 0o755]))
    def change_mode(self, name: str, mode: int) -> None:
        if (self.source / name).exists():
            (self.source / name).chmod(mode)

    @precondition(lambda self: self.quiet())
    @rule(old=NAMES, new=st.sampled_from(["link1", "sub/link2"]))
    def hard_link(self, old: str, new: str) -> None:
        if (self.source / old).exists() and not (self.source / new).exists():
            (self.source / new).parent.mkdir(parents=True, exist_ok=True)
            os.link(self.source / old, self.source / new)

    # --- runs

    def running(self, policy: str) -> Night:
        """The policy's run; a new one when there is none."""
        if policy not in self.nights:
            self.runs += 1
            rules = make_policy(self.source, policy, keep={"last": 2})
            self.nights[policy] = Night(lambda: self.store, self.source, rules, self.clock, f"{policy}/{self.runs}")
            self.done[policy] = 0
        return self.nights[policy]

    @rule(policy=st.sampled_from(POLICIES), steps=st.integers(1, 8))
    def go_on(self, policy: str, steps: int) -> None:
        for _ in range(steps):
            self.running(policy)
            self.one_step(policy)

    @rule(policy=st.sampled_from(POLICIES))
    def whole_night(self, policy: str) -> None:
        self.running(policy)
        while policy in self.nights:
            self.one_step(policy)

    def one_step(self, policy: str) -> None:
        night = self.nights[policy]
        name = Night.STEPS[self.done[policy]]
        night.step(name)
        if name == "list":
            self.keep_tree(night)
        if name == "commit":
            self.note_commit(night)
        self.done[policy] += 1
        if self.done[policy] == len(Night.STEPS):
            del self.nights[policy], self.done[policy]

    def keep_tree(self, night: Night) -> None:
        assert night.session
        kept = self.folder / f"tree-{night.session[0]}-{self.clock().timestamp()}"
        shutil.copytree(self.source, kept, symlinks=True, copy_function=_copy_keeping_links({}))
        self.trees[night.run_id] = kept

    def note_commit(self, night: Night) -> None:
        assert night.committed
        self.expected.setdefault(night.committed.snapshot, self.trees[night.run_id])

    @rule(policy=st.sampled_from(POLICIES), call=st.integers(1, 25), after=st.booleans())
    def crash(self, policy: str, call: int, after: bool) -> None:
        """The next step dies at one of its store calls; a later rule goes on with it."""
        night = self.running(policy)
        name = Night.STEPS[self.done[policy]]
        night.store = lambda: FaultStore(self.store, crash_at=call, crash="after" if after else "before")
        try:
            if name == "list":
                self.keep_tree(night)
            night.step(name)
        except Crash:
            pass
        else:
            if name == "commit":
                self.note_commit(night)
        finally:
            night.store = lambda: self.store

    @rule(policy=st.sampled_from(POLICIES))
    def start_over(self, policy: str) -> None:
        """The scheduler runs the whole run again from its first task."""
        if policy in self.nights:
            old = self.nights[policy]
            self.nights[policy] = Night(old.store, old.source, old.policy, self.clock, old.run_id)
            self.done[policy] = 0

    @rule(policy=st.sampled_from(POLICIES))
    def twin(self, policy: str) -> None:
        """A second process does the step that comes next, and its answer is lost."""
        zombie = copy.copy(self.running(policy))
        if self.done[policy] == 0:
            return  # a twin of `open` fences the other: tests/faults looks at that
        name = Night.STEPS[self.done[policy]]
        zombie.outcomes, zombie.evidence = dict(zombie.outcomes), dict(zombie.evidence)
        zombie.step(name)
        if name == "commit":
            self.note_commit(zombie)

    @rule()
    def forget(self) -> None:
        repository = open_repository(self.store)
        for name in POLICIES:
            retain(repository, make_policy(self.source, name, keep={"last": 2}), clock=self.clock)
        live = {record.id for record in repository.state.live()}
        for name in POLICIES:
            assert len(repository.state.live(name)) <= 2
        self.expected = {snapshot: tree for snapshot, tree in self.expected.items() if snapshot in live}

    @rule(days=st.floats(0.1, 40))
    def wait(self, days: float) -> None:
        self.clock.advance(days=days)

    @precondition(lambda self: self.expected)
    @rule(which=st.integers(0, 1 << 30), at=st.integers(0, 1 << 30), bit=st.integers(0, 7))
    def corrupt(self, which: int, at: int, bit: int) -> None:
        """A flipped bit in any object that matters is told, and never restores wrongly."""
        keys = [i.key for i in self.store.list("") if not i.key.startswith(("sessions/", "log/checkpoints/"))]
        key = keys[which % len(keys)]
        good = self.store.get(key)
        at %= len(good)
        self.store.delete(key)
        self.store.put(key, good[:at] + bytes([good[at] ^ (1 << bit)]) + good[at + 1 :])
        snapshot, tree = sorted(self.expected.items())[which % len(self.expected)]
        try:
            assert_restores_or_tells(open_repository(self.store), snapshot, tree)
        except (IntegrityError, RepositoryError):
            pass
        finally:
            self.store.delete(key)
            self.store.put(key, good)

    @rule()
    def everything_restores(self) -> None:
        repository = open_repository(self.store)
        assert {record.id for record in repository.state.live()} == set(self.expected)
        for snapshot, tree in self.expected.items():
            assert_restores(repository, snapshot, tree)

    @rule()
    def check_finds_nothing(self) -> None:
        assert check_repository(open_repository(self.store), read_data=1.0, clock=self.clock).problems == []

    @invariant()
    def a_run_commits_once(self) -> None:
        if hasattr(self, "store"):
            sessions = [record.session for record in open_repository(self.store).state.live()]
            assert len(sessions) == len(set(sessions))


def _copy_keeping_links(seen: dict[tuple[int, int], str]) -> Any:
    def copy_file(source: str, target: str) -> str:
        found = os.lstat(source)
        first = seen.setdefault((found.st_dev, found.st_ino), target)
        if first != target:
            os.link(first, target)
            return target
        return shutil.copy2(source, target, follow_symlinks=False)

    return copy_file


Machine.TestCase.settings = settings(
    max_examples=int(os.environ.get("MORAINE_EXAMPLES", "25")),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
test_machine = pytest.mark.timeout(600)(Machine.TestCase)
