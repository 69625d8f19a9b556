"""How often a repository that is far away is asked: each request costs its way there and back, and money."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from far import FarStore
from moraine.errors import ObjectNotFound, StoreUnavailable
from moraine.repository.objects import Objects
from moraine.sources.posix import PosixSource
from moraine.steps.backup import Holder, backup
from moraine.steps.check import check_repository
from moraine.stores.ahead import at_once, begin, gather
from moraine.stores.fault import Effect, Fault
from moraine.stores.memory import MemoryStore
from moraine.stores.retry import Patience, RetryingStore
from night import Clock, make_policy, make_repository, open_repository
from restored import assert_restores

MIB = 1 << 20
HOLDER = Holder("here", "this", lambda mark: True)


class World:
    """A tree of 24 MiB and a repository of it, far away."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.tree = folder / "tree"
        self.store = MemoryStore()
        for name in range(30):
            (self.tree / f"{name % 3}").mkdir(parents=True, exist_ok=True)
            (self.tree / f"{name % 3}/{name}").write_bytes(os.urandom(MIB if name < 24 else 1000))
        make_repository(self.store, self.clock)

    def settle(self) -> None:
        """Let the tree grow old: what was changed just now is read again."""
        for path in self.tree.rglob("*"):
            os.utime(path, (1e9, 1e9))
        self.clock.now = Clock().now.replace(year=2100)

    def night(self) -> FarStore:
        """A night by a process of its own; what it asked the store."""
        far = FarStore(self.store)
        repository = open_repository(far)
        self.clock.advance(hours=24)
        backup(
            repository,
            make_policy(self.tree),
            PosixSource(str(self.tree)),
            clock=self.clock,
            entropy=os.urandom,
            holder=HOLDER,
            work=MemoryStore(),
        )
        return far

    def entries(self) -> int:
        """Of the log."""
        return len(open_repository(self.store).log.entries())


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.settle()
    made.night()
    return made


def requests(far: FarStore, log: int) -> int:
    """All but those for the `log` entries that are there."""
    return len(far.calls) - log


def test_an_unchanged_night_asks_for_little(world: World) -> None:
    log = world.entries()
    far = world.night()
    # configuration, slots and one of them, checkpoints, log; the parent and its rows; two entries, a snapshot; parts
    assert requests(far, log) <= 11, far.calls
    assert sum(call.verb == "put" for call in far.calls) == 3
    assert set(far.asked("get").values()) == {1}, "nothing is read twice"


def test_a_changed_night_asks_for_little_more(world: World) -> None:
    log = world.entries()
    (world.tree / "0/new").write_bytes(os.urandom(1000))
    (world.tree / "1/1").unlink()
    far = world.night()
    # besides: packs of this session, the index; a pack and its end; rows, index; the sample
    assert requests(far, log) <= 11 + 7, far.calls
    assert sum(call.verb == "put" for call in far.calls) == 6
    assert set(far.asked("get").values()) == {1}, "nothing is read twice"


def test_a_restore_asks_for_large_ranges_and_for_nothing_twice(world: World, tmp_path: Path) -> None:
    (world.tree / "2/new").write_bytes(b"new")
    world.night()
    log = world.entries()
    far = FarStore(world.store)
    repository = open_repository(far)
    assert_restores(repository, repository.find("latest").id, world.tree)
    # configuration, slots and one of them, checkpoints, log; snapshot, rows, changed rows, two segments
    whole = [call for call in far.calls if call.verb != "get_range"]
    assert len(whole) - log <= 10, whole
    assert set(far.asked("get").values()) == {1}, "nothing is read twice"
    packs = [info.size for info in world.store.list("packs/")]
    assert sum(packs) > 24 * MIB
    assert sum(far.asked("get_range").values()) <= sum(-(-size // (7 * MIB)) for size in packs)


def test_entries_are_appended_without_asking_for_the_head(world: World) -> None:
    far = FarStore(world.store)
    repository = open_repository(far)
    other = open_repository(world.store)
    before = len(far.calls)
    repository.log.append("hold", {"snapshot": "x", "reason": None}, now=world.clock())
    assert [call.verb for call in far.calls[before:]] == ["put"]
    other.log.append("hold", {"snapshot": "x", "reason": None}, now=world.clock())  # finds out by losing
    assert other.log.state.number == repository.log.state.number + 1


def test_check_reads_what_is_there_and_not_what_was(world: World) -> None:
    repository = open_repository(world.store)
    rows = list(repository.manifest(repository.snapshot("latest")).tables())
    assert rows
    for info in list(world.store.list("manifests/")):
        world.store.delete(info.key)
    assert check_repository(repository, clock=world.clock).exit_code == 50


def test_objects_keep_so_many_bytes_and_the_last_ones() -> None:
    store = MemoryStore()
    for name in "abcd":
        store.put(name, name.encode() * 10)
    far = FarStore(store)
    objects = Objects(far, most=20)
    for name in ("a", "b", "a", "c", "a", "b"):
        assert objects.get(name) == name.encode() * 10
    assert far.asked("get") == {"a": 1, "b": 2, "c": 1}
    objects.clear()
    objects.get("b")
    assert far.asked("get")["b"] == 3


def test_what_was_asked_ahead_is_asked_once_and_a_failure_is_not_kept() -> None:
    store = MemoryStore()
    store.put("a", b"a")
    far = FarStore(store, [Fault(Effect.UNAVAILABLE, keys="a", times=1)])
    objects = Objects(far)
    objects.ahead("a")
    objects.ahead("a")
    objects.ahead("gone")
    with pytest.raises(StoreUnavailable):
        objects.get("a")
    with pytest.raises(ObjectNotFound):
        objects.get("gone")
    objects.ahead("a")
    assert (objects.get("a"), objects.get("a")) == (b"a", b"a")
    assert far.asked("get")["a"] == 2


@pytest.mark.parametrize("far", [False, True])
def test_a_near_store_is_asked_when_the_answer_is_needed_and_a_far_one_before(far: bool) -> None:
    inner = FarStore(MemoryStore()) if far else MemoryStore()
    store = RetryingStore(inner, Patience(lambda seconds: None, lambda: 0.0, lambda: 0.0))
    assert at_once(store) == (8 if far else 2)
    made: list[int] = []

    def call(number: int) -> Callable[[], int]:
        return lambda: made.append(number) or number

    wait = begin(store, call(0))
    if not far:
        assert made == []
    assert wait() == 0
    assert list(gather(store, map(call, range(1, 100)))) == list(range(1, 100))
    assert sorted(made) == list(range(100))
