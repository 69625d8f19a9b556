"""What a restore does with what is in the target already: rules, deletion, going on after an interruption."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from moraine.errors import ConfigError, TargetFull, UnsafePath
from moraine.model.progress import NoProgress
from moraine.stores.memory import MemoryStore
from restoring import World, make_simple, make_wide, mounted, tree


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def simple(world: World) -> World:
    """A small tree, backed up."""
    make_simple(world.source)
    world.backup()
    return world


class TestOverwriting:
    @pytest.mark.parametrize(
        ("rule", "older", "newer", "same_time"),
        [
            ("always", b"top", b"top", b"top"),
            ("if-changed", b"top", b"top", b"new"),
            ("if-newer", b"top", b"new", b"new"),
            ("never", b"new", b"new", b"new"),
        ],
    )
    def test_rules(self, simple: World, rule: str, older: bytes, newer: bytes, same_time: bytes) -> None:
        at = (simple.source / "top.txt").stat().st_mtime_ns
        for expected, time in ((older, at - 10**9), (newer, at + 10**9), (same_time, at)):
            shutil.rmtree(simple.out, ignore_errors=True)
            simple.out.mkdir()
            (simple.out / "top.txt").write_bytes(b"new")
            os.utime(simple.out / "top.txt", ns=(time, time))
            simple.restore(overwrite=rule, verify=False)
            assert (simple.out / "top.txt").read_bytes() == expected
            assert (simple.out / "large").read_bytes() == (simple.source / "large").read_bytes()

    def test_what_is_there_stays_without_delete(self, simple: World) -> None:
        (simple.out / "docs/mine").mkdir(parents=True)
        (simple.out / "docs/mine/file").write_text("mine")
        assert simple.restore().deleted == 0
        assert (simple.out / "docs/mine/file").read_text() == "mine"
        assert simple.restore(delete=True).deleted == 2
        assert simple.differences() == []

    def test_a_file_is_replaced_whole_and_its_other_names_are_not(self, simple: World) -> None:
        simple.out.mkdir()
        (simple.out / "top.txt").write_bytes(b"theirs")
        os.link(simple.out / "top.txt", simple.out / "other name")
        simple.restore()
        assert (simple.out / "other name").read_bytes() == b"theirs"
        assert (simple.out / "top.txt").read_bytes() == b"top"

    def test_a_directory_in_the_way_of_a_file(self, simple: World) -> None:
        (simple.out / "top.txt").mkdir(parents=True)
        (simple.out / "top.txt/precious").write_text("p")
        done = simple.restore(verify=False)
        assert done.warning_counts == {"conflict": 1}
        assert done.exit_code == 3
        assert (simple.out / "top.txt/precious").exists()
        assert simple.restore(delete=True).exit_code == 0
        assert simple.differences() == []

    @pytest.mark.parametrize("rule", ["if-changed", "never"])
    def test_a_symlink_in_the_place_of_a_directory_is_never_followed(
        self, simple: World, tmp_path: Path, rule: str
    ) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "a.txt").write_text("keep")
        simple.out.mkdir()
        (simple.out / "docs").symlink_to(outside)
        done = simple.restore(overwrite=rule, verify=False, delete=True)
        assert tree(outside) == ["a.txt"]
        assert (outside / "a.txt").read_text() == "keep"
        if rule == "never":
            assert done.warning_counts["conflict"] == 5
            assert (simple.out / "docs").is_symlink()
        else:
            assert simple.differences() == []

    def test_what_ordinary_restores_leave_is_finished(self, simple: World) -> None:
        """Files that differ in attributes only are not written again."""
        simple.restore()
        inode = (simple.out / "large").stat().st_ino
        (simple.out / "large").chmod(0o600)
        os.setxattr(simple.out / "large", "user.not", b"there")
        done = simple.restore()
        assert (done.refreshed, done.files) == (1, 0)
        assert (simple.out / "large").stat().st_ino == inode
        assert simple.differences() == []


class TestDeleting:
    def test_extras_go_but_never_through_links(self, simple: World, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "precious").touch()
        simple.restore()
        (simple.out / "empty/deep/er").mkdir(parents=True)
        (simple.out / "empty/deep/er/link").symlink_to(outside)
        (simple.out / "way out").symlink_to(outside)
        os.mkfifo(simple.out / "docs/fifo")
        done = simple.restore(delete=True)
        assert done.deleted == 5
        assert simple.differences() == []
        assert (outside / "precious").exists()

    def test_only_in_what_was_asked_for(self, simple: World) -> None:
        simple.restore()
        for path in ("extra", "docs/extra", "docs/deep/extra", "empty/extra"):
            (simple.out / path).touch()
        simple.restore(include=["docs"], exclude=["docs/deep"], delete=True)
        assert [path for path in tree(simple.out) if "extra" in path] == ["docs/deep/extra", "empty/extra", "extra"]

    def test_excluded_things_stay(self, simple: World) -> None:
        simple.restore()
        (simple.out / "cache").touch()
        (simple.out / "lost+found").mkdir()
        simple.restore(exclude=["cache", "docs"], delete=True)
        assert {"cache", "lost+found", "docs/a.txt"} < set(tree(simple.out))

    @pytest.mark.parametrize("rules", [{"include": ["**/*.txt"]}, {"paths": [b"top.txt"]}])
    def test_delete_needs_whole_directories(self, simple: World, rules: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match="delete"):
            simple.plan(delete=True, **rules)

    def test_a_very_deep_extra(self, simple: World) -> None:
        simple.restore()
        fd = os.open(simple.out, os.O_RDONLY)
        for _ in range(600):
            os.mkdir("d" * 20, dir_fd=fd)
            below = os.open("d" * 20, os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        os.close(fd)
        assert simple.restore(delete=True).deleted == 600
        assert simple.differences() == []


class Interrupting(MemoryStore):
    """Calls a function before a certain read of a pack."""

    def __init__(self, other: MemoryStore, number: int, call: Callable[[], None]) -> None:
        super().__init__()
        self._objects = other._objects
        self._number, self._call = number, call

    def get_range(self, key: str, start: int, length: int) -> bytes:
        self._number -= 1
        if self._number == 0:
            self._call()
        return super().get_range(key, start, length)


class Deadly(NoProgress):
    """Kills its process when something was written for the nth time."""

    def __init__(self, number: int) -> None:
        self._number = number

    def advance(self, files: int = 0, bytes: int = 0) -> None:
        self._number -= 1
        if self._number == 0:
            os._exit(9)


class TestInterruptions:
    @pytest.fixture
    def wide(self, world: World, monkeypatch: pytest.MonkeyPatch) -> World:
        """Directories with files, each directory in packs of its own."""
        make_wide(world.source, 2 << 20)
        world.backup()
        return world

    @pytest.mark.parametrize("rule", ["if-changed", "never", "if-newer"])
    @pytest.mark.parametrize("full", [False, True], ids=["fresh", "into what is there"])
    @pytest.mark.parametrize("number", [1, 9])
    def test_a_killed_restore_goes_on(self, wide: World, number: int, full: bool, rule: str) -> None:
        if full:
            (wide.out / "dir03").mkdir(parents=True)
            (wide.out / "dir03/mine").touch()
        child = os.fork()
        if not child:
            wide.restore(overwrite=rule, verify=False, progress=Deadly(number))
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        assert any(path.is_dir() and stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in wide.out.iterdir())
        complete = {path: path.stat().st_ino for path in wide.complete()}
        assert complete or number == 1
        assert wide.restore(overwrite=rule).exit_code == 0
        (wide.out / "dir03/mine").unlink(missing_ok=True)
        os.utime(wide.out / "dir03", ns=(0, (wide.source / "dir03").stat().st_mtime_ns))
        if full and rule != "if-changed":
            (wide.out / "dir03").chmod(0o555)
            os.utime(wide.out, ns=(0, wide.source.stat().st_mtime_ns))
        assert wide.differences() == []
        assert all(path.stat().st_ino == inode for path, inode in complete.items())

    @pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
    def test_a_full_target(self, wide: World) -> None:
        wide.out.mkdir()
        with mounted(wide.out, "size=5m") as remount:
            with pytest.raises(TargetFull) as caught:
                wide.restore()
            assert caught.value.exit_code == 62
            for path in wide.out.rglob("*"):
                if path.is_file():
                    original = wide.source / path.relative_to(wide.out)
                    assert path.read_bytes() == original.read_bytes()
            before = {path: path.stat().st_ino for path in wide.complete()}
            assert before
            remount("size=100m")
            assert wide.restore().exit_code == 0
            assert wide.differences() == []
            assert all(path.stat().st_ino == inode for path, inode in before.items())

    def test_a_link_swapped_in_on_the_way(self, wide: World, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()

        def swap() -> None:
            for number in range(6):
                os.rename(wide.out / f"dir{number:02d}", wide.out / f"moved{number:02d}")
                (wide.out / f"dir{number:02d}").symlink_to(outside)

        plain, wide.store = wide.store, Interrupting(wide.store, 2, swap)
        with suppress(UnsafePath):  # what is still open goes where it was moved
            assert wide.restore(verify=False).exit_code == 3
        wide.store = plain
        assert list(outside.iterdir()) == []
        wide.restore(delete=True)
        assert list(outside.iterdir()) == []
        assert wide.differences() == []
