"""A crash before and after every single store call of a run, and a zombie twin of every step.

The invariant: every committed snapshot restores equal to the tree it was taken of, the run commits exactly once, and
`check` finds nothing wrong.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from moraine.errors import Fenced, MoraineError
from moraine.stores.base import Store
from moraine.stores.fault import Crash, FaultStore
from moraine.stores.memory import MemoryStore
from night import Clock, Night, make_policy, make_repository, open_repository
from restored import assert_restores


class World:
    """A source with one committed snapshot, then edited: the next night has something of everything to do."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.store = MemoryStore()
        self.source = folder / "source"
        self.first = folder / "first"
        for name in ("kept", "sub/edited", "sub/gone", "sub/moved"):
            path = self.source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode() * 50)
        (self.source / "large").write_bytes(os.urandom(3 << 20))
        make_repository(self.store, self.clock)
        self.night("one").all()
        shutil.copytree(self.source, self.first, symlinks=True)
        (self.source / "sub/edited").write_bytes(b"other")
        (self.source / "sub/gone").unlink()
        (self.source / "sub/moved").rename(self.source / "elsewhere")
        (self.source / "new").mkdir()
        (self.source / "new/file").write_bytes(os.urandom(100_000))
        os.symlink("file", self.source / "new/link")
        self.saved = {info.key: self.store.get(info.key) for info in self.store.list("")}

    def rewind(self) -> None:
        """Back to the evening: one snapshot, the tree edited."""
        for info in list(self.store.list("")):
            self.store.delete(info.key)
        for key, data in self.saved.items():
            self.store.put(key, data)

    def night(self, run_id: str, store: object = None) -> Night:
        target = store or self.store
        return Night(lambda: target, self.source, make_policy(self.source), self.clock, run_id)  # type: ignore[arg-type,return-value]

    def require_sound(self, snapshots: int) -> None:
        repository = open_repository(self.store)
        live = repository.state.live()
        assert len(live) == snapshots
        assert_restores(repository, live[0].id, self.first)
        if snapshots > 1:
            assert_restores(repository, live[1].id, self.source)


def _same(store: Store) -> Store:
    return store


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("crash"))


def count_calls(world: World) -> dict[str, int]:
    """Store calls of each step of the second night."""
    world.rewind()
    counting = FaultStore(world.store)
    night = world.night("two", counting)
    calls = {}
    for name in Night.STEPS:
        before = len(counting.calls)
        night.step(name)
        calls[name] = len(counting.calls) - before
    world.require_sound(2)
    return calls


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", Night.STEPS)
def test_a_crash_at_every_store_call_and_a_retry_of_that_step(world: World, name: str, after: bool) -> None:
    for call in range(1, count_calls(world)[name] + 1):
        world.rewind()
        night = world.night("two")
        steps = list(Night.STEPS)
        at = steps.index(name)
        for step in steps[:at]:
            night.step(step)
        night.store = partial(_same, FaultStore(world.store, crash_at=call, crash="after" if after else "before"))
        with pytest.raises(Crash):
            night.step(name)
        night.store = lambda: world.store
        for step in steps[at:]:
            night.step(step)
        world.require_sound(2)


@pytest.mark.parametrize("name", Night.STEPS)
def test_a_crash_and_then_the_whole_run_again(world: World, name: str) -> None:
    calls = count_calls(world)[name]
    for call in sorted({1, calls // 2, calls} - {0}):
        world.rewind()
        night = world.night("two")
        for step in Night.STEPS[: Night.STEPS.index(name)]:
            night.step(step)
        night.store = partial(_same, FaultStore(world.store, crash_at=call, crash="after"))
        with pytest.raises(Crash):
            night.step(name)
        again = world.night("two")
        again.all()
        committed_before = name == "close" or (name == "commit" and call == calls)
        repository = open_repository(world.store)
        assert len(repository.state.live()) == (3 if committed_before else 2)
        assert_restores(repository, repository.state.live()[-1].id, world.source)


@pytest.mark.parametrize("name", Night.STEPS)
def test_a_zombie_twin_of_any_step_does_no_harm(world: World, name: str) -> None:
    """The twin wakes up with what it knew, after each later step of the run that went on without it."""
    at = Night.STEPS.index(name)
    for wake in range(at, len(Night.STEPS)):
        world.rewind()
        night = world.night("two")
        for step in Night.STEPS[:at]:
            night.step(step)
        zombie = world.night("two")
        zombie.session, zombie.listed, zombie.diffed = night.session, list(night.listed), night.diffed
        zombie.outcomes, zombie.evidence = dict(night.outcomes), dict(night.evidence)
        for step in Night.STEPS[at : wake + 1]:
            night.step(step)
        with suppress(MoraineError):  # refused, as it should be, or told that its files are gone
            zombie.step(name)
        fenced = name == "open" and wake < Night.STEPS.index("commit")
        if fenced:  # the later opener is the newest attempt now: the first one must lose
            with pytest.raises(Fenced):
                night.step(Night.STEPS[wake + 1])
            world.require_sound(1)
            continue
        for step in Night.STEPS[wake + 1 :]:
            night.step(step)
        world.require_sound(2)


def test_two_runs_of_one_policy_at_once_both_commit(world: World) -> None:
    world.rewind()
    one, two = world.night("two"), world.night("three")
    for step in Night.STEPS:
        one.step(step)
        two.step(step)
    repository = open_repository(world.store)
    assert len(repository.state.live()) == 3
    for record in repository.state.live()[1:]:
        assert_restores(repository, record.id, world.source)


def test_a_retried_open_fences_the_attempt_before(world: World) -> None:
    world.rewind()
    first, second = world.night("two"), world.night("two")
    first.step("open")
    second.step("open")
    assert first.session and second.session and first.session[0] == second.session[0]
    with pytest.raises(Fenced, match="attempt 1"):
        first.step("list")
    second.all(Night.STEPS[1:])
    world.require_sound(2)
