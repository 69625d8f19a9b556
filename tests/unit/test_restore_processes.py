"""Restores whose work is spread over processes: the same result as alone, and nothing left when one of them dies."""

from __future__ import annotations

import os
import signal
import stat
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_line import Line
from forked import At, in_session, refuse_forks
from moraine.errors import RestoreError, TargetFull
from moraine.model.progress import NoProgress
from moraine.sources.target import Code, Notes
from moraine.steps import restore_content
from moraine.steps.processes import may_fork
from moraine.steps.restore_content import Pieces, shares
from moraine.stores.local import LocalStore
from moraine.stores.memory import MemoryStore
from moraine.stores.retry import RetryingStore
from nasty import make_nasty_tree
from restoring import NOBODY, World, allow, make_wide, mounted
from unprivileged import as_nobody

Forks = list[int]


@pytest.fixture
def forks(monkeypatch: pytest.MonkeyPatch) -> Forks:
    """How many processes each part of a restore was spread over; also where pytest has a thread of its own."""
    counts: Forks = []
    spread = restore_content.write_in_processes

    def counted(parts: Sequence[Any], *rest: Any) -> None:
        counts.append(len(parts))
        spread(parts, *rest)

    monkeypatch.setattr(restore_content, "SHARE_UNIT", 100_000)
    monkeypatch.setattr(restore_content, "may_fork", lambda store: True)
    monkeypatch.setattr(restore_content, "write_in_processes", counted)
    return counts


@pytest.fixture
def world(tmp_path: Path, forks: Forks) -> World:
    world = World(tmp_path)
    world.processes = 3
    return world


@pytest.fixture
def wide(world: World) -> World:
    """Directories with small files and a large one each; no content twice."""
    make_wide(world.source, 3 << 20)
    world.backup()
    return world


class Mortal(MemoryStore):
    """Ends a process that was forked when it reads for the nth time."""

    def __init__(self, other: MemoryStore, number: int) -> None:
        super().__init__()
        self._objects = other._objects
        self._left, self._first = number, os.getpid()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        self._left -= 1
        if self._left == 0 and os.getpid() != self._first:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().get_range(key, start, length)


def unfinished(world: World) -> list[Path]:
    """Files in the target that are not what the source has."""
    files = [path for path in world.out.rglob("*") if path.is_file()]
    return [p for p in files if p.read_bytes() != (world.source / p.relative_to(world.out)).read_bytes()]


class TestSame:
    def test_a_nasty_tree_and_the_same_notes(self, world: World, forks: Forks, tmp_path: Path) -> None:
        make_nasty_tree(world.source, as_root=os.geteuid() == 0)
        world.backup()
        seen: list[tuple[int, int]] = []
        heard = NoProgress()
        heard.advance = lambda files=0, bytes=0: seen.append((files, bytes))  # type: ignore[method-assign]
        spread = world.restore(progress=heard, verify=False)
        assert forks == [3]
        assert world.differences() == []
        assert sum(files for files, _ in seen) == spread.files
        assert sum(size for _, size in seen) == spread.bytes
        world.out, world.processes = tmp_path / "alone", 1
        alone = world.restore(verify=False)
        assert {**asdict(spread), "target": ""} == {**asdict(alone), "target": ""}

    def test_a_part_that_is_mostly_one_file_has_several_threads(
        self, world: World, forks: Forks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_wide(world.source, 20_000)
        (world.source / "large").write_bytes(os.urandom(24 << 20))
        world.backup()
        given: list[list[int]] = []
        threads_of = restore_content.threads

        def noted(parts: Sequence[Pieces], cores: int) -> list[int]:
            given.append(threads_of(parts, cores))
            return given[-1]

        monkeypatch.setattr(restore_content, "threads", noted)
        restored = world.restore()
        assert (restored.exit_code, forks) == (0, [2])
        assert sorted(given[0]) == [1, 3]
        assert world.differences() == []

    def test_over_what_is_there(self, wide: World, forks: Forks) -> None:
        (wide.out / "dir03/large").mkdir(parents=True)
        (wide.out / "dir03/large/mine").touch()
        (wide.out / "dir04").mkdir()
        (wide.out / "dir04/7").write_bytes(b"mine")
        (wide.out / "dir05").write_bytes(b"a file where a directory is to be")
        done = wide.restore(overwrite="never", verify=False)
        assert forks == [3]
        assert done.exit_code == 3
        assert (wide.out / "dir04/7").read_bytes() == b"mine"
        assert (wide.out / "dir05").is_file()
        done = wide.restore(overwrite="always", delete=True)
        assert done.exit_code == 0
        assert wide.differences() == []
        assert done.files == 66
        assert done.deleted == 2

    @pytest.mark.skipif(os.geteuid() != 0, reason="gives up rights")
    def test_what_all_say_is_said_once(self, wide: World, forks: Forks) -> None:
        wide.out.mkdir()
        os.chown(wide.out, NOBODY, NOBODY)
        allow(wide.out)

        def check() -> None:
            done = wide.restore(verify=False)
            assert forks == [3]
            assert done.warning_counts[Code.OWNER] == 66 + 7
            assert [note["code"] for note in done.warnings] == [Code.OWNER]

        as_nobody(wide.out, check, give=False)


class TestTrouble:
    def test_what_is_damaged_is_named_and_the_rest_restored(self, wide: World, tmp_path: Path) -> None:
        for key in sorted(key for key in wide.store._objects if key.startswith("packs/"))[:1]:
            data, at = wide.store._objects[key]
            middle = len(data) // 2
            wide.store._objects[key] = (data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :], at)
        spread = wide.restore(verify=False)
        assert spread.exit_code == 50
        there = sum(path.is_file() for path in wide.out.rglob("*"))
        assert spread.files == there == 66 - spread.warning_counts["damaged"]
        assert unfinished(wide) == []
        wide.out, wide.processes = tmp_path / "alone", 1
        alone = wide.restore(verify=False)
        assert sorted(map(str, alone.warnings)) == sorted(map(str, spread.warnings))
        assert alone.warning_counts == spread.warning_counts

    def test_a_process_is_killed(self, wide: World) -> None:
        plain, wide.store = wide.store, Mortal(wide.store, 2)
        children = set(psutil.Process().children())  # servers that other tests go on with
        with pytest.raises(RestoreError, match="SIGKILL") as caught:
            wide.restore(verify=False)
        assert "again" in (caught.value.hint or "")
        assert set(psutil.Process().children()) <= children
        before = {path: path.stat().st_ino for path in wide.complete()}
        wide.store = plain
        assert wide.restore().exit_code == 0
        assert wide.differences() == []
        assert all(path.stat().st_ino == inode for path, inode in before.items())

    def test_no_room_for_a_process(self, wide: World, monkeypatch: pytest.MonkeyPatch) -> None:
        left = refuse_forks(monkeypatch, False, True, True)
        done = wide.restore()
        assert next(left, None) is None
        assert (done.exit_code, done.files) == (0, 66)
        assert wide.differences() == []

    @pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
    def test_a_full_target(self, wide: World) -> None:
        wide.out.mkdir()
        with mounted(wide.out, "size=9m") as remount:
            with pytest.raises(TargetFull) as caught:
                wide.restore()
            assert caught.value.exit_code == 62
            assert "no space left" in caught.value.message
            assert unfinished(wide) == []
            before = {path: path.stat().st_ino for path in wide.complete()}
            assert before
            remount("size=100m")
            assert wide.restore().exit_code == 0
            assert wide.differences() == []
            assert all(path.stat().st_ino == inode for path, inode in before.items())

    @pytest.mark.parametrize("number", [1, 9])
    def test_ctrl_c(self, wide: World, number: int) -> None:
        """A terminal sends it to all processes."""
        call = partial(os.killpg, 0, signal.SIGINT)

        def act() -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            wide.restore(verify=False, progress=At(number, call))

        assert in_session(act) == 130
        self.goes_on(wide)

    def test_ctrl_c_while_an_ended_process_is_waited_for(self, wide: World, monkeypatch: pytest.MonkeyPatch) -> None:
        def act() -> None:
            wait, calls = os.waitpid, count()

            def interrupted(child: int, options: int) -> tuple[int, int]:
                if next(calls) == 0:
                    raise KeyboardInterrupt
                return wait(child, options)

            monkeypatch.setattr(os, "waitpid", interrupted)
            with pytest.raises(KeyboardInterrupt):
                wide.restore(verify=False)
            with suppress(ChildProcessError):  # as there is nobody
                os._exit(wait(-1, os.WNOHANG) and 1)
            raise KeyboardInterrupt

        assert in_session(act) == 130
        self.goes_on(wide)

    @pytest.mark.parametrize("number", [1, 9])
    def test_the_first_process_is_killed(self, wide: World, number: int) -> None:
        def act() -> None:
            wide.restore(verify=False, progress=At(number, lambda: os.kill(os.getpid(), signal.SIGKILL)))

        assert in_session(act) == -signal.SIGKILL
        self.goes_on(wide)

    def goes_on(self, wide: World) -> None:
        before = {path: path.stat().st_ino for path in wide.complete()}
        assert any(path.is_dir() and not stat.S_IMODE(path.stat().st_mode) & 0o077 for path in wide.out.iterdir())
        assert wide.restore().exit_code == 0
        assert wide.differences() == []
        assert all(path.stat().st_ino == inode for path, inode in before.items())


class TestWhere:
    def test_not_where_it_is_not_safe(self, tmp_path: Path) -> None:
        local, halt = LocalStore(tmp_path), threading.Event()
        alone = threading.active_count() == 1  # pytest may have a thread of its own
        assert may_fork(local) == alone
        assert not may_fork(RetryingStore(local, None))  # type: ignore[arg-type]
        other = threading.Thread(target=halt.wait)
        other.start()
        try:
            assert not may_fork(local)
        finally:
            halt.set()
            other.join()

    def test_the_command_line_takes_the_cores_it_may_use(
        self, bare: Line, forks: Forks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(8):
            (bare.source / f"{number}").write_bytes(os.urandom(3 << 20))
        bare("repo", "init")
        bare("backup", str(bare.source))
        for cores, expected in ((1, []), (2, [2]), (64, [4])):
            monkeypatch.setattr(os, "sched_getaffinity", lambda process, cores=cores: set(range(cores)))
            forks.clear()
            done = bare.json("restore", "latest", "--to", str(bare.folder / f"out{cores}"), "--verify")
            assert forks == expected
            assert (done["files"], done["verified"], done["exit_code"]) == (10, 10, 0)

    def test_little_work_is_done_alone(self, world: World, forks: Forks, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(restore_content, "SHARE_UNIT", 32 << 20)
        world.source.mkdir()
        (world.source / "file").write_bytes(os.urandom(1 << 20))
        world.backup()
        assert world.restore().exit_code == 0
        assert forks == []

    @given(st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=5), max_size=30), st.integers(1, 4))
    def test_every_file_is_whole_in_one_share(self, files: list[list[int]], processes: int) -> None:
        """Each file is a list of places, three of which are in one frame."""
        pairs = sorted((place, file) for file, places in enumerate(files) for place in places)
        place, file = (np.array([pair[i] for pair in pairs], np.int64) for i in (0, 1))
        locations = pa.table(
            {
                "pack": pa.array([f"p{n // 12}" for n in range(41)]).dictionary_encode(),
                "offset": pa.array([n // 3 * 1000 for n in range(41)]),
                "size": pa.array([60_000] * 41),
                "id": pa.array([bytes([n]) * 32 for n in range(41)], pa.binary(32)),
            }
        )
        none = np.empty(0, np.int64)
        first = np.searchsorted(place, np.arange(42))
        pieces = Pieces(file, place, np.arange(len(file)), locations, first, none)
        found = shares(pieces, np.bincount(file, minlength=len(files)), processes)
        assert len(found) <= processes
        owners = [set(part.file.tolist()) for part in found]
        assert sum(map(len, owners)) == len(set().union(*owners)) == len(files)
        assert sorted(n for part in found for n in part.offset.tolist()) == list(range(len(file)))


def test_samples_stay_few() -> None:
    notes, other = Notes(), Notes()
    for found in (notes, other):
        for number in range(1500):
            found.add(Code.FAILED, b"%d" % number, "cannot be written")
            found.add(Code.OWNER, b"%d" % number, "is another one's", once=True)
    notes.take(other)
    assert notes.counts == {Code.FAILED: 3000, Code.OWNER: 3000}
    assert len(notes.kept) == 1001
