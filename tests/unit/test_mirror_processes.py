"""Mirrors whose copying is spread over processes: the same tree as by one, and nothing left when one of them dies."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from command_line import Line
from forked import At, in_session, refuse_forks
from mirroring import Nights, mirror_policy
from moraine.engine import plan
from moraine.errors import RestoreError, TargetFull
from moraine.model.policy_mirror import STATE
from moraine.model.progress import NoProgress
from moraine.sources.posix_mirror_trash import Trash
from moraine.sources.posix_mirror_writer import PosixMirrorWriter
from moraine.sources.posix_target_tree import Tree
from moraine.steps import processes
from moraine.steps.mirror import Mirrored
from nasty import make_nasty_tree
from restoring import make_wide, mounted

Forks = list[int]


@pytest.fixture
def forks(monkeypatch: pytest.MonkeyPatch) -> Forks:
    """How many processes copied at once, each time; also where pytest has a thread of its own."""
    counts: Forks = []
    spread = processes.in_processes

    def counted(parts: Sequence[Any], *rest: Any, **more: Any) -> None:
        counts.append(len(parts))
        spread(parts, *rest, **more)

    monkeypatch.setattr(plan, "_WORTH", 100_000)
    monkeypatch.setattr(processes, "may_fork", lambda store: True)
    monkeypatch.setattr(processes, "in_processes", counted)
    return counts


class Spread(Nights):
    """Nights that three processes copy in."""

    def night(self, **flags: Any) -> Mirrored:
        return super().night(**{"processes": 3, **flags})


@pytest.fixture
def nights(tmp_path: Path, forks: Forks) -> Spread:
    (tmp_path / "source").mkdir()
    return Spread(tmp_path / "source", tmp_path / "mirror")


@pytest.fixture
def wide(nights: Spread) -> Spread:
    """Directories with small files and a large one each; no content twice."""
    make_wide(nights.source, 3 << 20)
    for folder in nights.source.iterdir():
        folder.chmod(0o755)
    return nights


def result(done: Mirrored) -> dict[str, Any]:
    """What does not hang on the hour."""
    found = asdict(done)
    for name in ("snapshot", "window", "digest", "racy"):
        del found["committed"][name]
    del found["drift"]["at"]
    return found


def aside(nights: Nights) -> Iterator[Path]:
    """What is left of files that were being written."""
    return (nights.to / STATE / "aside").rglob("*")


class TestSame:
    def test_a_nasty_tree(self, nights: Spread, forks: Forks, tmp_path: Path) -> None:
        make_nasty_tree(nights.source, as_root=os.geteuid() == 0)
        subprocess.run(["find", nights.source, "-type", "f", "-links", "+1", "-delete"], check=True)
        (nights.source / "large").write_bytes(os.urandom(1 << 20))
        seen: list[tuple[int, int]] = []
        heard = NoProgress()
        heard.advance = lambda files=0, bytes=0: seen.append((files, bytes))  # type: ignore[method-assign]
        spread = nights.night(progress=heard)
        assert forks == [2]  # the large file is one share
        assert nights.differences() == []
        alone = Nights(nights.source, tmp_path / "alone").night()
        assert result(spread) == result(alone)
        assert sum(files for files, _ in seen) > 3
        assert sum(size for _, size in seen) > 1 << 20

    def test_a_night_of_changes(self, wide: Spread, forks: Forks) -> None:
        wide.night()
        for number, folder in enumerate(sorted(wide.source.iterdir())):
            (folder / "0").write_bytes(os.urandom(40_000))
            (folder / "1").unlink()
            (folder / "large").write_bytes(os.urandom(200_000))
            (folder / "2").unlink()
            (folder / "2").mkdir()
            (folder / "2" / f"below{number}").write_bytes(b"a folder now")
        forks.clear()
        done = wide.night()
        assert forks == [2]
        assert wide.differences() == []
        assert sum(done.drift["counts"].values()) == 0
        assert len(wide.trashed()) == 6 * 4
        assert wide.night().committed.changed == 0

    def test_more_shards_than_processes(self, wide: Spread, forks: Forks) -> None:
        wide.policy = mirror_policy(wide.source, wide.to, shards={"copy_files": 10})
        wide.night()
        assert forks == [3, 3, 2]
        assert wide.differences() == []

    def test_names_of_one_file_stay_that(self, wide: Spread, forks: Forks) -> None:
        os.link(wide.source / "dir00/large", wide.source / "dir05/other")
        assert wide.night().committed.added < 6 * (3 << 20) + 60 * 30_000 + 1
        assert forks == []
        assert wide.differences() == []

    def test_little_work_is_done_alone(self, nights: Spread, forks: Forks) -> None:
        (nights.source / "file").write_bytes(b"small")
        nights.night()
        assert forks == []
        assert nights.differences() == []


class TestTrouble:
    def test_a_process_is_killed(self, wide: Spread, monkeypatch: pytest.MonkeyPatch) -> None:
        first, flush = os.getpid(), PosixMirrorWriter.flush

        def die(writer: PosixMirrorWriter) -> list[int]:
            if writer.ready and writer.ready[0].directory != b"dir00" and os.getpid() != first:
                os.kill(os.getpid(), signal.SIGKILL)
            return flush(writer)

        children = set(psutil.Process().children())  # servers that other tests go on with
        with monkeypatch.context() as patch:
            patch.setattr(PosixMirrorWriter, "flush", die)
            with pytest.raises(RestoreError, match="SIGKILL") as caught:
                wide.night()
        assert "run it again" in (caught.value.hint or "")
        assert set(psutil.Process().children()) <= children
        self.goes_on(wide)

    def test_no_room_for_a_process(self, wide: Spread, monkeypatch: pytest.MonkeyPatch) -> None:
        left = refuse_forks(monkeypatch, False, True, True)
        wide.night()
        assert next(left, None) is None
        assert wide.differences() == []

    @pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
    def test_a_full_mirror(self, wide: Spread) -> None:
        wide.to.mkdir()
        with mounted(wide.to, "size=9m") as remount:
            with pytest.raises(TargetFull) as caught:
                wide.night()
            assert caught.value.exit_code == 62
            remount("size=100m")
            wide.night()
            assert list(aside(wide)) == []
            out = subprocess.run(
                ["diff", "-rq", "-x", STATE, wide.source, wide.to], capture_output=True, text=True, check=False
            )
            assert out.stdout == ""

    @pytest.mark.parametrize("number", [4, 9])
    def test_ctrl_c(self, wide: Spread, number: int) -> None:
        """A terminal sends it to all processes."""
        assert self.ended(wide, number, partial(os.killpg, 0, signal.SIGINT)) == 130
        self.goes_on(wide)

    @pytest.mark.parametrize("number", [4, 9])
    def test_the_first_process_is_killed(self, wide: Spread, number: int) -> None:
        assert self.ended(wide, number, lambda: os.kill(os.getpid(), signal.SIGKILL)) == -signal.SIGKILL
        self.goes_on(wide)

    def ended(self, wide: Spread, number: int, call: Callable[[], object]) -> int:
        def act() -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            wide.night(mark="dead", progress=At(number, call))

        return in_session(act)

    def goes_on(self, wide: Spread) -> None:
        done = wide.night(mark="next")
        assert sum(done.drift["counts"].values()) == 0
        assert wide.differences() == []
        assert wide.trashed() == []
        assert list(aside(wide)) == []


def test_a_directory_that_another_writer_has_made_does_not_give_way(tmp_path: Path) -> None:
    """Two shards find a file where both need a directory; the slower one finds that of the quicker one."""
    top = tmp_path / "tree"
    (top / "made").mkdir(parents=True)
    (top / "made/theirs").write_bytes(b"here already")
    (top / "file").write_bytes(b"in the way")
    (top / "link").symlink_to("made")
    trash = Trash(os.fsencode(tmp_path / "trash"), "run")
    with Tree(os.fsencode(top)) as tree:
        for name in (b"made", b"file", b"link", b"nothing"):
            trash.give_way(tree.place(b""), b"", name)
    trash.close()
    assert sorted(path.name for path in top.iterdir()) == ["made"]
    assert (top / "made/theirs").read_bytes() == b"here already"
    assert sorted(path.name for path in (tmp_path / "trash/run").iterdir()) == ["file", "link"]


def test_the_command_line_takes_the_cores_it_may_use(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], forks: Forks, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Line(tmp_path, capfd)
    for number in range(8):
        (line.source / f"{number}").write_bytes(os.urandom(3 << 20))
    for cores, expected in ((1, []), (2, [2]), (64, [4])):
        monkeypatch.setattr(os, "sched_getaffinity", lambda process, cores=cores: set(range(cores)))
        forks.clear()
        line("mirror", str(line.source), str(tmp_path / f"mirror{cores}"), common=False)
        assert forks == expected
        assert (tmp_path / f"mirror{cores}/7").read_bytes() == (line.source / "7").read_bytes()
