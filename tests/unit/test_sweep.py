"""Sweep removes what nobody can need any more, and nothing else, whoever is at work meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from command_line import Line
from moraine.errors import AccessDenied, MissingObject, SessionClosed
from moraine.repository import layout
from moraine.steps.check import check_repository
from moraine.steps.close import compact_index
from moraine.steps.sweep import Swept, sweep
from moraine.stores.base import Buffer, ObjectInfo
from moraine.stores.fault import Effect, Fault, FaultStore
from moraine.stores.memory import MemoryStore
from night import Clock, Night, make_policy, make_repository, open_repository
from restored import assert_restores


class DatedStore(MemoryStore):
    """Dates objects by the test's clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.dates: dict[str, datetime] = {}
        self.before_delete: Callable[[str], None] = lambda key: None

    def put(self, key: str, data: Buffer) -> None:
        super().put(key, data)
        self.dates[key] = self.clock.now

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[ObjectInfo]:
        for info in super().list(prefix, after=after):
            yield replace(info, modified=self.dates[info.key])

    def delete(self, key: str) -> None:
        self.before_delete(key)
        super().delete(key)


class World:
    def __init__(self, folder: Path) -> None:
        self.clock = Clock(datetime(2026, 11, 1, tzinfo=UTC))
        self.store = DatedStore(self.clock)
        self.source = folder / "source"
        self.source.mkdir()
        make_repository(self.store, self.clock)

    def night(self, name: str, *steps: str, policy: str = "test") -> Night:
        """A night up to one of its steps, over a file of its own."""
        (self.source / name).write_bytes(os.urandom(100_000))
        night = Night(lambda: self.store, self.source, make_policy(self.source, policy), self.clock, name)
        night.all(steps) if "commit" in steps else [night.step(step) for step in steps]
        return night

    def sweep(self, **parts: object) -> Swept:
        return sweep(open_repository(self.store), clock=self.clock, **parts)  # type: ignore[arg-type]

    def keys(self, *prefixes: str) -> set[str]:
        return {info.key for prefix in prefixes for info in self.store.list(prefix)}


TO_COPY = ("open", "list", "diff", "copy")
WHOLE = Night.STEPS


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def session(night: Night) -> str:
    assert night.session
    return night.session[0]


def test_open_sessions_are_left_alone_until_they_are_stale(world: World) -> None:
    killed = world.night("killed", *TO_COPY)
    before = world.keys("")
    world.clock.advance(days=13)
    swept = world.sweep()
    assert (swept.removed, swept.abandoned, swept.report) == ([], [], None)
    assert [(left.session, left.packs, left.why) for left in swept.kept] == [
        (session(killed), 1, "open: test, attempt 1")
    ]
    assert world.keys("") == before
    killed.step("verify")
    killed.step("commit")
    assert_restores(open_repository(world.store), killed.committed.snapshot, world.source)  # type: ignore[union-attr]


def test_stale_sessions_are_given_up_and_their_leftovers_go(world: World) -> None:
    done = world.night("done", *WHOLE)
    before_killed = os.stat(world.source).st_mtime_ns
    killed = world.night("killed", *TO_COPY, policy="no-longer-run")
    world.clock.advance(days=15)
    before = world.keys("")
    planned = world.sweep(dry_run=True)
    assert world.keys("") == before, "a dry run writes nothing"
    swept = world.sweep()
    assert swept.removed == planned.removed
    assert swept.abandoned == planned.abandoned == [session(killed)]
    (left,) = swept.removed
    assert (left.session, left.packs, left.why) == (session(killed), 1, "abandoned: stale")
    assert left.files > 3
    assert not world.keys(layout.session_packs(session(killed)), f"sessions/{session(killed)}/")
    report = open_repository(world.store).load_report(swept.report or "")
    assert len(report["keys"]) == left.packs + left.files
    assert report["removed"][0]["why"] == "abandoned: stale"
    with pytest.raises(SessionClosed):  # the zombie that wakes up
        killed.step("verify")
    os.unlink(world.source / "killed")
    os.utime(world.source, ns=(before_killed, before_killed))
    assert_restores(open_repository(world.store), done.committed.snapshot, world.source)  # type: ignore[union-attr]
    assert world.sweep().removed == []


def test_young_objects_stay(world: World) -> None:
    world.night("killed", *TO_COPY)
    world.clock.advance(days=15)
    swept = world.sweep(keep_for=timedelta(days=16))
    assert not swept.removed
    assert {left.why for left in swept.kept} == {"abandoned: stale, but too young"}
    world.clock.advance(days=2)
    assert world.sweep(keep_for=timedelta(days=16)).removed


def test_packs_of_zombies_go_and_those_of_snapshots_stay(world: World) -> None:
    first = world.night("first", *WHOLE)
    orphan = layout.pack(session(first), open_repository(world.store).new_id(world.clock()))
    world.store.put(orphan, b"what a zombie uploaded after the commit")
    (world.source / "first").unlink()
    second = world.night("second", *WHOLE)
    needed = world.keys("packs/") - {orphan}
    world.clock.advance(days=4)
    swept = world.sweep()
    assert [(left.session, left.packs, left.why) for left in swept.removed] == [(session(first), 1, "committed")]
    assert world.keys("packs/") == needed
    assert check_repository(open_repository(world.store), read_data=1.0, clock=world.clock).problems == []
    assert_restores(open_repository(world.store), second.committed.snapshot, world.source)  # type: ignore[union-attr]


def test_packs_of_forgotten_snapshots_and_compacted_segments_stay(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights = [world.night(f"n{number}", *WHOLE) for number in range(3)]
    repository = open_repository(world.store)
    body = {"snapshots": [{"id": nights[0].committed.snapshot, "reason": "test"}]}  # type: ignore[union-attr]
    repository.log.append("forget", body, now=world.clock())
    monkeypatch.setattr("moraine.repository.index_segments.COMPACT_AT", 2)
    assert compact_index(repository, now=world.clock()) == 3
    before = world.keys("packs/")
    assert len(before) == 3
    world.clock.advance(days=20)
    assert world.sweep().removed == []
    assert world.keys("packs/") == before


def test_what_the_log_does_not_know_stays(world: World) -> None:
    """The log may have been restored from a copy that is older than the packs."""
    stranger = open_repository(world.store).new_id(world.clock())
    world.store.put(layout.pack(stranger, stranger), b"pack")
    world.store.put(layout.session_file(stranger, "x.json"), b"file")
    world.clock.advance(days=400)
    swept = world.sweep()
    assert not swept.removed
    assert [(left.session, left.packs, left.files, left.why) for left in swept.kept] == [
        (stranger, 1, 1, "unknown to the log")
    ]


def test_without_a_segment_that_counts_nothing_goes(world: World) -> None:
    world.night("done", *WHOLE)
    world.night("killed", *TO_COPY)
    world.clock.advance(days=20)
    (segment,) = world.keys("index/")
    world.store.delete(segment)
    before = world.keys("packs/", "sessions/")
    with pytest.raises(MissingObject):
        world.sweep()
    assert world.keys("packs/", "sessions/") == before


def test_a_run_that_commits_while_the_sweep_is_listing(world: World) -> None:
    """Its session is seen as open in the listing and as committed in the log: its packs stay."""
    busy = world.night("busy", *TO_COPY, "verify")
    world.clock.advance(days=10)
    repository = open_repository(world.store)
    refresh = repository.log.refresh

    def commit_first() -> None:
        if busy.committed is None:
            busy.step("commit")
        refresh()

    repository.log.refresh = commit_first  # type: ignore[method-assign]
    swept = sweep(repository, clock=world.clock)
    assert [(left.packs, left.why) for left in swept.removed] == [(0, "committed")]  # its working files alone
    assert busy.committed
    assert_restores(open_repository(world.store), busy.committed.snapshot, world.source)


def test_a_stale_run_that_is_started_again_just_now_goes_on(world: World) -> None:
    killed = world.night("killed", *TO_COPY)
    world.clock.advance(days=10)
    repository = open_repository(world.store)
    append = repository.log.append

    def open_first(*args: object, **more: object) -> object:
        Night.step(killed, "open")
        return append(*args, **more)  # type: ignore[arg-type]

    repository.log.append = open_first  # type: ignore[method-assign,assignment]
    swept = sweep(repository, clock=world.clock, abandon_after=timedelta(days=5))
    assert (swept.abandoned, swept.removed) == ([], [])
    for step in ("list", "diff", "copy", "verify", "commit", "close"):
        killed.step(step)
    assert killed.committed
    assert_restores(open_repository(world.store), killed.committed.snapshot, world.source)


def test_a_store_that_refuses_to_delete_is_said(world: World) -> None:
    world.night("killed", *TO_COPY)
    world.clock.advance(days=20)
    denied = FaultStore(world.store, [Fault(Effect.DENIED, "delete")])
    with pytest.raises(AccessDenied):
        sweep(open_repository(denied), clock=world.clock)
    assert world.keys("reports/sweep/"), "what was to go is said before anything goes"
    assert world.sweep().removed, "the next one goes on"


def test_a_sweep_that_is_killed_goes_on(world: World) -> None:
    world.night("done", *WHOLE)
    world.night("killed", *TO_COPY)
    world.clock.advance(days=20)

    def die(key: str) -> None:
        if key.startswith("packs/"):
            raise KeyboardInterrupt

    world.store.before_delete = die
    with pytest.raises(KeyboardInterrupt):
        world.sweep()
    world.store.before_delete = lambda key: None
    assert world.sweep().removed[0].packs == 1
    assert check_repository(open_repository(world.store), read_data=1.0, clock=world.clock).problems == []


def test_the_command(line: Line) -> None:
    assert "0 B removed" in line("sweep")
    line("backup", str(line.source))
    found = line.json("sweep", "--dry-run", "--keep", "0s")
    assert (found["dry_run"], found["removed"], found["kept"]) == (True, [], [])


def test_the_command_names_every_session(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*args: object, **more: object) -> None:
        raise SystemExit(9)

    monkeypatch.setattr("moraine.steps.backup.commit", die)
    (line.source / "new").write_text("content that no snapshot has")
    packs = set((line.repo / "packs").rglob("*"))
    with pytest.raises(SystemExit):
        line("backup", str(line.source))
    said = line("sweep", "--abandon", "100d", "--keep", "0s")
    assert "keep" in said
    assert "open: docs, attempt 1" in said
    said = line("sweep", "--abandon", "0s", "--keep", "0s", "-n")
    assert "would be removed (dry run); 1 open run given up" in said
    said = line("sweep", "--abandon", "0s", "--keep", "0s")
    assert "abandoned: stale" in said
    assert "see reports/sweep/" in said
    assert {path for path in (line.repo / "packs").rglob("*") if path.is_file()} <= packs
