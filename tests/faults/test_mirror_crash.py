"""A mirror's run killed before any system call that changes something, and run again.

The invariants: nothing half-written is ever visible, nothing is gone that is not in the trash, the next run makes the
mirror equal to its source, commits exactly once, and does not take its own half-done work for somebody else's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from mirroring import Nights
from moraine.model.policy_mirror import STATE

CHANGING = ("rename", "link", "symlink", "mkdir", "rmdir", "unlink", "mknod", "utime", "chmod", "fsync", "ftruncate")
# One call in so many is tried, others tomorrow; 1 tries them all. Odd, since the parity decides who goes on.
EVERY = int(os.environ.get("MORAINE_TEST_EVERY", 3))


class World:
    """A source with one mirrored night, then edited: the next night has something of everything to do."""

    def __init__(self, folder: Path) -> None:
        self.nights = Nights(folder / "source", folder / "mirror")
        source = self.nights.source
        for name in ("kept", "sub/edited", "sub/gone", "sub/moved", "old/one", "was-file", "was-folder/inside"):
            path = source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"first {name}")
        os.link(source / "kept", source / "kept-too")
        self.nights.night()
        self.first = contents(source)
        (source / "sub/edited").write_text("second")
        (source / "sub/gone").unlink()
        (source / "sub/moved").rename(source / "elsewhere")
        (source / "old/one").unlink()
        (source / "old").rmdir()
        (source / "was-file").unlink()
        (source / "was-file").mkdir()
        (source / "was-file/below").write_text("a folder now")
        (source / "was-folder/inside").unlink()
        (source / "was-folder").rmdir()
        (source / "was-folder").write_text("a file now")
        (source / "new").mkdir()
        (source / "new/link").symlink_to("file")
        (source / "new/one").write_text("two names")
        os.link(source / "new/one", source / "new/two")
        for number in range(4):
            (source / f"new/more-{number}").write_text(f"more {number}")
        (source / "large").write_bytes(os.urandom(1 << 20))
        os.truncate(source / "large", 3 << 20)
        self.second = contents(source)

    def require_whole(self) -> None:
        """Whatever is visible is the old or the new version, and what was there is there still, or in the trash."""
        visible = contents(self.nights.to)
        for path, content in visible.items():
            assert content in (self.first.get(path), self.second.get(path)), f"{path} is neither version"
        trashed = contents(self.nights.to / STATE / "trash", strip=1)
        for path, content in self.first.items():
            assert content in (visible.get(path), trashed.get(path)), f"{path} is gone"


def contents(top: Path, *, strip: int = 0) -> dict[str, bytes]:
    """Path → content of all files, the mirror's own folder left out."""
    found = {}
    for path in top.rglob("*"):
        parts = path.relative_to(top).parts
        if parts[0] != STATE and path.is_file() and not path.is_symlink():
            found["/".join(parts[strip:])] = path.read_bytes()
    return found


def killed_at(world: World, number: int) -> int:
    """A night in a process that kills itself before that changing call; the signal, or how many calls there were."""
    command = [sys.executable, __file__, str(number), str(world.nights.to.parent)]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return int(done.stdout) if done.returncode == 0 else signal.SIGKILL


def die_at(number: int, folder: Path) -> None:
    calls = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **more)

        return call

    for name in CHANGING:
        setattr(os, name, counted(getattr(os, name)))
    Nights(folder / "source", folder / "mirror").night(mark="dead")
    print(calls)


@pytest.fixture
def make(tmp_path: Path) -> Callable[[], World]:
    """Makes worlds, one after the other: what a mirror remembers of itself does not survive a copy."""
    numbers = count()

    def world() -> World:
        number = next(numbers)
        subprocess.run(["rm", "-rf", tmp_path / str(number - 1)], check=True)
        (tmp_path / str(number)).mkdir()
        return World(tmp_path / str(number))

    return world


def crash_and_go_on(world: World, number: int, *, retake: bool) -> None:
    ended = killed_at(world, number)
    if ended != signal.SIGKILL:
        return
    world.require_whole()
    # The dead run's session is taken over where its host is this one, else a new one begins.
    done = world.nights.night(mark="next", alive=not retake)
    assert sum(done.drift["counts"].values()) == 0, f"call {number}: {done.drift['named']}"
    assert world.nights.differences() == [], f"call {number}"
    world.require_whole()
    after = world.nights.night(mark="after", alive=True)
    assert sum(after.drift["counts"].values()) == 0
    assert after.committed.changed == after.committed.racy


def calls_of(world: World) -> int:
    calls = killed_at(world, 0)
    assert calls > 100
    assert world.nights.differences() == []
    return calls


def test_killed_here_and_there(make: Callable[[], World]) -> None:
    calls = calls_of(make())
    for number in range(3, calls, calls // 5):
        crash_and_go_on(make(), number, retake=bool(number % 2))


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_killed_everywhere(make: Callable[[], World]) -> None:
    first = 1 + date.today().toordinal() % EVERY
    for number in range(first, calls_of(make()) + 1, EVERY):
        crash_and_go_on(make(), number, retake=bool(number % 2))


if __name__ == "__main__":
    die_at(int(sys.argv[1]), Path(sys.argv[2]))
