"""A tree whose listing begins while its repository is being opened."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from forked import in_child
from moraine.errors import SourceError
from moraine.sources import posix_walk
from moraine.sources.base import ListShard
from moraine.sources.posix import PosixSource
from moraine.steps.backup import Holder, backup
from moraine.stores.memory import MemoryStore
from nasty import make_nasty_tree
from night import Clock, make_policy, make_repository

WHOLE = ListShard("all")


def names(source: PosixSource, shard: ListShard = WHOLE) -> list[bytes]:
    return [name for batch in source.list(shard) for name in batch.column("name").to_pylist()]


def listed(source: PosixSource, then: Callable[[], object], *shards: ListShard) -> Any:
    """The names in listings of these shards, where `then` is called after a listing of all has begun elsewhere.

    In a process without other threads: with them nothing is forked.
    """

    def listings() -> list[list[bytes]]:
        with source.begun() as elsewhere:
            assert elsewhere
            time.sleep(0.3)
            then()
            return [names(source, shard) for shard in shards]

    return in_child(listings)


def test_what_was_listed_ahead_is_handed_out_once(tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    then = (tmp_path / "new").touch
    assert listed(PosixSource(str(tmp_path)), then, WHOLE, WHOLE) == [[b"", b"old"], [b"", b"new", b"old"]]


def test_a_part_of_the_tree_is_listed_anew(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    part = ListShard("part-001", (b"",), (b"b",))
    (found,) = listed(PosixSource(str(tmp_path)), (tmp_path / "a" / "new").touch, part)
    assert found == [b"", b"a", b"new"]


@pytest.mark.parametrize("batch", [7, 64, 1 << 16])
def test_the_same_is_listed_in_another_process(batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posix_walk, "BATCH", batch)  # smaller than a directory, than the tree, than neither
    make_nasty_tree(tmp_path, as_root=os.geteuid() == 0)
    source = PosixSource(str(tmp_path))
    (found,) = in_child(lambda: _rows(source, elsewhere=True))
    assert found == in_child(lambda: _rows(source, elsewhere=False))[0]
    assert len(found) > 100


def _rows(source: PosixSource, *, elsewhere: bool) -> list[list[dict[str, object]]]:
    with source.begun() if elsewhere else nullcontext():
        return [[row for batch in source.list(WHOLE) for row in batch.to_pylist()]]


def test_an_error_there_is_an_error_here(tmp_path: Path) -> None:
    found = listed(PosixSource(str(tmp_path / "nothing-here")), lambda: None, WHOLE)
    assert isinstance(found, SourceError)
    assert "nothing-here" in found.message


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    for number in range(3000):
        (tmp_path / f"{number:0200}").touch()  # more than a pipe holds

    def begun() -> tuple[int, list[str]]:
        before = os.listdir("/proc/self/fd")
        source = PosixSource(str(tmp_path))
        with source.begun() as elsewhere:
            assert elsewhere
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return len(os.listdir("/proc/self/fd")) - len(before), []
        return -1, ["a process is left"]

    assert in_child(begun) == (0, [])


def test_a_process_that_is_killed_is_said(tmp_path: Path) -> None:
    for number in range(3000):
        (tmp_path / f"{number:0200}").touch()

    def kill() -> object:
        source = PosixSource(str(tmp_path))
        with source.begun():
            (child,) = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            time.sleep(0.3)
            os.kill(int(child), signal.SIGKILL)
            return names(source)

    assert isinstance(in_child(kill), SourceError)


def test_where_the_system_reaps_processes_by_itself(tmp_path: Path) -> None:
    def ignoring() -> list[bytes]:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        source = PosixSource(str(tmp_path))
        with source.begun() as elsewhere:
            assert elsewhere
            return names(source)

    assert in_child(ignoring) == [b""]


def test_a_bug_there_is_told_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise LookupError("no such thing")

    monkeypatch.setattr(posix_walk.Walk, "_directory", broken)

    def told() -> str:
        source = PosixSource(str(tmp_path))
        with source.begun(), pytest.raises(LookupError, match="no such thing") as raised:
            names(source)
        return "".join(raised.value.__notes__)

    assert "in broken" in in_child(told)


def test_beside_other_threads_nothing_is_forked(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    source = PosixSource(str(tmp_path))
    with source.begun() as elsewhere:
        assert not elsewhere
        assert names(source) == [b"", b"a"]
    stop.set()
    thread.join()


def test_a_snapshot_stands_for_the_time_its_listing_began(tmp_path: Path) -> None:
    clock, store = Clock(), MemoryStore()
    repository = make_repository(store, clock)
    source = PosixSource(str(tmp_path))
    began = clock()
    clock.advance(seconds=90)  # a passphrase was stretched, or a store was slow
    done = backup(
        repository,
        make_policy(tmp_path),
        source,
        clock=clock,
        entropy=os.urandom,
        holder=Holder("host", "mark", alive=lambda mark: True),
        work=MemoryStore(),
        began=began,
    )
    record = repository.state.snapshots[done.snapshot]
    assert record.captured_at == began
    assert record.window.end == began, "it must not cover what came after it looked"
    assert record.finished_at - began >= timedelta(seconds=90)
