"""Restores of real backups: equal trees, rules for what is there already, resuming, damage, forged snapshots."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from blake3 import blake3

from compare import compare_trees, rsync_differences
from moraine.engine.selection import select
from moraine.errors import ConfigError, MoraineError, RestoreError, TargetFull, UnsafePath
from moraine.model.entry import Kind, State
from moraine.model.progress import NoProgress
from moraine.repository.repository import Repository
from moraine.sources.posix_target import PosixTarget
from moraine.steps import restore as restore_step
from moraine.steps.restore import Restored, execute_restore
from moraine.steps.restore_plan import RestorePlan, plan_restore
from moraine.steps.restore_verify import verify_restored
from moraine.stores.memory import MemoryStore
from nasty import make_nasty_tree, nasty_edit
from night import Clock, Night, make_policy, make_repository, open_repository
from rows import manifest, paths

NOBODY = 65534


class World:
    """A source, a repository of its snapshots, and a place to restore to."""

    def __init__(self, folder: Path) -> None:
        self.source, self.out = folder / "source", folder / "out"
        self.store: MemoryStore = MemoryStore()
        self.clock = Clock()
        make_repository(self.store, self.clock)

    @property
    def target(self) -> PosixTarget:
        return PosixTarget(self.out)

    @property
    def repository(self) -> Repository:
        return open_repository(self.store)

    def backup(self) -> str:
        self.clock.advance(hours=1)
        night = Night(
            lambda: self.store, self.source, make_policy(self.source), self.clock, run_id=f"night {self.clock()}"
        )
        return night.all().snapshot

    def plan(self, snapshot: str = "latest", **rules: Any) -> RestorePlan:
        repository = self.repository
        return plan_restore(repository, repository.snapshot(snapshot), target=self.target, **rules)

    def restore(
        self, snapshot: str = "latest", *, verify: bool = True, owners: str = "id", progress: Any = None, **rules: Any
    ) -> Restored:
        plan = self.plan(snapshot, **rules)
        return execute_restore(plan, self.repository, self.target, verify=verify, owners=owners, progress=progress)

    def complete(self) -> Iterator[Path]:
        """Files of the target that have their time."""
        for path in self.out.rglob("*"):
            original = self.source / path.relative_to(self.out)
            if path.is_file() and original.exists() and path.stat().st_mtime_ns == original.stat().st_mtime_ns:
                yield path

    def differences(self) -> list[str]:
        return compare_trees(self.source, self.out)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def simple(world: World) -> World:
    """A small tree, backed up."""
    make_simple(world.source)
    world.backup()
    return world


def make_simple(root: Path) -> None:
    (root / "docs/deep").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "docs/a.txt").write_bytes(b"alpha")
    (root / "docs/b.pdf").write_bytes(b"beta" * 1000)
    (root / "docs/deep/c.txt").write_bytes(b"gamma")
    (root / "top.txt").write_bytes(b"top")
    (root / "large").write_bytes(os.urandom(3 << 20))
    (root / "link").symlink_to("docs/a.txt")
    (root / "docs").chmod(0o751)
    for number, path in enumerate(("docs/deep", "docs", "empty", "")):
        os.utime(root / path, (number, 1_600_000_000 + number))


def tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def as_nobody(work: Callable[[], None]) -> None:
    """Run in a child that has given up all rights; a failure there is one here."""
    child = os.fork()
    if not child:
        status = 1
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            work()
            status = 0
        except BaseException as error:  # whatever it is, the parent has to hear of it
            os.write(2, repr(error).encode())
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


class TestWholeTrees:
    def test_the_nasty_tree_comes_back(self, world: World) -> None:
        make_nasty_tree(world.source, as_root=os.geteuid() == 0)
        world.backup()
        done = world.restore()
        assert world.differences() == []
        assert done.exit_code == 0
        assert done.warning_counts == {}
        skipped = ("deep", "sparse")
        assert rsync_differences(world.source, world.out, exclude=skipped) in ([], [".d..t...... special/"])
        again = world.plan()
        assert {name for name, count in again.counts.items() if count} == {"nothing"}

    def test_both_nights_come_back_and_one_over_the_other(self, world: World, tmp_path: Path) -> None:
        make_nasty_tree(world.source, as_root=os.geteuid() == 0)
        (world.source / "special/socket").unlink()
        first = world.backup()
        world.out = tmp_path / "kept"
        world.restore(first)
        assert world.differences() == []
        world.out = tmp_path / "out"
        nasty_edit(world.source)
        second = world.backup()
        assert world.restore(second).exit_code == 0
        assert world.differences() == []
        done = world.restore(first, overwrite="always", delete=True)
        assert done.exit_code == 0
        assert compare_trees(tmp_path / "kept", world.out) == []

    @pytest.mark.skipif(os.geteuid() != 0, reason="gives up rights")
    def test_an_ordinary_user_gets_all_but_owners(self, world: World) -> None:
        make_nasty_tree(world.source, as_root=True)
        world.backup()
        world.out.mkdir(mode=0o777)
        os.chown(world.out, NOBODY, NOBODY)
        allow(world.out)

        def check() -> None:
            done = world.restore(verify=False)
            assert done.exit_code == 3
            counts = done.warning_counts
            assert counts["device-skipped"] == 3
            assert counts["setuid-dropped"] >= 4
            assert counts["owner-kept"] > 500
            assert sum(note["code"] == "owner-kept" for note in done.warnings) == 1
            assert set(counts) <= {
                "device-skipped", "setuid-dropped", "owner-kept", "attribute-refused"
            }  # fmt: skip

        as_nobody(check)
        found = [d for d in compare_trees(world.source, world.out, owners=False) if "only in" not in d]
        lost = ("file-4755", "file-6711", "file-2755", "directory-2775", "owner-")  # set-id bits, dropped on purpose
        assert [d for d in found if not any(name in d for name in lost)] == []
        assert all(": mode " in d for d in found)

    def test_an_empty_source(self, world: World) -> None:
        world.source.mkdir()
        world.backup()
        assert world.restore().directories == 1
        assert world.differences() == []


def allow(path: Path) -> None:
    """Let everybody pass the directories above."""
    for parent in path.parents:
        if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)


class TestSelection:
    def test_a_subtree_with_its_parents(self, simple: World) -> None:
        done = simple.restore(include=["docs/deep"])
        assert tree(simple.out) == ["docs", "docs/deep", "docs/deep/c.txt"]
        assert done.directories == 3
        for path in ("", "docs", "docs/deep"):
            here, there = (simple.out / path).stat(), (simple.source / path).stat()
            assert (here.st_mode, here.st_mtime_ns) == (there.st_mode, there.st_mtime_ns)

    @pytest.mark.parametrize(
        ("include", "exclude", "expected"),
        [
            (["docs/**"], [], ["docs", "docs/a.txt", "docs/b.pdf", "docs/deep", "docs/deep/c.txt"]),
            (["**/*.txt"], [], ["docs", "docs/a.txt", "docs/deep", "docs/deep/c.txt", "top.txt"]),
            (["*.txt"], [], ["docs", "docs/a.txt", "docs/deep", "docs/deep/c.txt", "top.txt"]),
            (["/*.txt"], [], ["top.txt"]),
            (["/docs/?.txt"], [], ["docs", "docs/a.txt"]),
            (["/d*"], ["**/deep", "*.pdf"], ["docs", "docs/a.txt"]),
            ([], ["docs", "large"], ["empty", "link", "top.txt"]),
            (["empty", "top.txt"], [], ["empty", "top.txt"]),
        ],
    )
    def test_globs(self, simple: World, include: list[str], exclude: list[str], expected: list[str]) -> None:
        assert simple.restore(include=include, exclude=exclude).exit_code == 0
        assert tree(simple.out) == expected

    def test_exact_paths_may_hold_anything(self, world: World) -> None:
        world.source.mkdir()
        for name in ("*", "[x]", "plain", "back\\slash"):
            (world.source / name).write_text(name)
        world.backup()
        world.restore(paths=[b"*", b"back\\slash"])
        assert tree(world.out) == ["*", "back\\slash"]

    def test_nothing_matches(self, simple: World) -> None:
        with pytest.raises(RestoreError, match="nothing in the snapshot matches"):
            simple.plan(include=["no/such"])

    @pytest.mark.parametrize("glob", ["../x", "a/../../b", "a\0b", "[z-a]"])
    def test_bad_globs(self, glob: str) -> None:
        with pytest.raises(ConfigError):
            select([glob])

    def test_parents_that_are_there_keep_what_they_have(self, simple: World) -> None:
        (simple.out / "docs").mkdir(parents=True)
        (simple.out / "docs").chmod(0o700)
        simple.out.chmod(0o711)
        simple.restore(include=["docs/a.txt"])
        assert stat.S_IMODE((simple.out / "docs").stat().st_mode) == 0o700
        assert stat.S_IMODE(simple.out.stat().st_mode) == 0o711


class TestPlans:
    def test_a_plan_writes_nothing_and_says_everything(self, simple: World) -> None:
        plan = simple.plan()
        assert not simple.out.exists()
        assert (plan.write_files, plan.write_bytes) == (5, 5 + 4000 + 5 + 3 + (3 << 20))
        assert plan.counts["create"] == 10
        simple.restore()
        (simple.out / "top.txt").write_text("changed")
        (simple.out / "docs/a.txt").chmod(0o600)
        (simple.out / "extra").write_text("x" * 10)
        plan = simple.plan(delete=True)
        rows = [row for table in plan.rows(simple.repository) for row in table.to_pylist()]
        said = {row["dir"] + b"/" + row["name"]: (row["action"], row["reason"]) for row in rows}
        assert said[b"/top.txt"] == ("overwrite", "differs from what the target has")
        assert said[b"docs/a.txt"] == ("refresh", "content is right, attributes are not")
        assert said[b"/large"][0] == "nothing"
        assert plan.counts["overwrite"] == plan.counts["delete"] == 1
        assert plan.to_dict()["extras"] == ["extra"]
        assert plan.delete_bytes == 10
        assert (simple.out / "extra").exists()

    def test_holes_take_no_space(self, world: World) -> None:
        world.source.mkdir()
        with open(world.source / "sparse", "wb") as file:
            file.truncate(1 << 40)
            os.pwrite(file.fileno(), b"x" * 4096, 1 << 39)
        world.backup()
        assert world.plan().write_bytes < 1 << 20
        world.restore()
        assert world.differences() == []

    def test_a_plan_of_another_snapshot_is_refused(self, simple: World) -> None:
        plan = simple.plan()
        (simple.source / "more").touch()
        simple.backup()
        wrong = RestorePlan(
            **{f: getattr(plan, f) for f in plan.__slots__} | {"snapshot": simple.repository.snapshot("latest")}
        )
        with pytest.raises(RestoreError, match="plan"):
            execute_restore(wrong, simple.repository, simple.target)


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
        for number in range(6):
            folder = world.source / f"dir{number:02d}"
            folder.mkdir(parents=True)
            for n in range(10):
                (folder / f"{n}").write_bytes(os.urandom(30_000))
            (folder / "large").write_bytes(os.urandom(2 << 20))
            folder.chmod(0o555)
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


Remount = Callable[[str], None]


def mounted(path: Path, options: str) -> Any:
    """A small file system in memory, for the time of a test."""

    def mount(options: str) -> None:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("cannot mount here")

    @contextmanager
    def run() -> Iterator[Remount]:
        mount(options)
        try:
            yield lambda new: mount(f"remount,{new}")
        finally:
            subprocess.run(["umount", path], check=True)

    return run()


class TestDamage:
    def damage(self, world: World, keep: int) -> None:
        """Turn one bit in the middle of every pack but `keep` of them."""
        for key in sorted(k for k in world.store._objects if k.startswith("packs/"))[keep:]:
            data, at = world.store._objects[key]
            middle = len(data) // 3
            world.store._objects[key] = (data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :], at)

    def test_what_is_damaged_is_named_and_the_rest_restored(self, simple: World) -> None:
        (simple.source / "later").mkdir()
        (simple.source / "later/small").write_bytes(os.urandom(1000))
        (simple.source / "later/big").write_bytes(os.urandom(5 << 20))
        simple.backup()
        simple.out.mkdir()
        (simple.out / "later").mkdir()
        (simple.out / "later/big").write_bytes(b"what was there")
        self.damage(simple, keep=1)
        done = simple.restore(verify=False)
        assert done.exit_code == 50
        lost = {note["path"] for note in done.warnings if note["code"] == "damaged"}
        assert "later/big" in lost or "later/small" in lost
        assert (simple.out / "later/big").read_bytes() == b"what was there" or "later/big" not in lost
        assert (simple.out / "large").read_bytes() == (simple.source / "large").read_bytes()
        there = {str(path.relative_to(simple.out)) for path in simple.out.rglob("*")}
        expected = set(tree(simple.source))
        assert expected - there == lost - {"later/big"}
        assert not any(name.startswith(".moraine") for path in there for name in path.split("/"))

    def test_a_pack_is_gone(self, simple: World) -> None:
        for key in [k for k in simple.store._objects if k.startswith("packs/")]:
            simple.store.delete(key)
        done = simple.restore(verify=False)
        assert done.warning_counts["damaged"] == 5
        assert tree(simple.out) == ["docs", "docs/deep", "empty", "link"]

    def test_an_index_segment_is_gone(self, simple: World) -> None:
        for key in [k for k in simple.store._objects if k.startswith("index/")]:
            simple.store.delete(key)
        with pytest.raises(MoraineError, match="is gone"):
            simple.restore()

    def test_verify_finds_what_was_changed_behind_it(self, simple: World) -> None:
        simple.restore()
        for path in ("docs/b.pdf", "large"):
            at = (simple.out / path).stat()
            with open(simple.out / path, "r+b") as file:
                file.seek(at.st_size // 2)
                file.write(b"!")
            os.utime(simple.out / path, ns=(at.st_atime_ns, at.st_mtime_ns))
        (simple.out / "top.txt").unlink()
        rows = simple.repository.manifest(simple.repository.snapshot("latest")).table()
        found = verify_restored(simple.repository, simple.target, rows)
        assert found.files == 5
        assert {note.path for note in found.notes.kept} == {"docs/b.pdf", "large", "top.txt"}
        done = simple.restore()
        assert done.verified == 5
        assert done.warning_counts == {"differs": 2}
        assert done.exit_code == 3


class Forged:
    """A repository that holds whatever rows a test writes."""

    def __init__(self, entries: dict[bytes, dict[str, Any]], folder: Path) -> None:
        self.real = make_repository(MemoryStore(), Clock())
        empty = blake3(b"", key=self.real.keyring.id_key).digest()
        root = {b"": {"kind": Kind.DIRECTORY, "nlink": 2, "mode": 0o755}}
        filled = {
            path: {"size": 0, "digest": empty if row.get("kind", Kind.FILE) == Kind.FILE else None, **row}
            for path, row in entries.items()
        }
        self.table = manifest(root | filled)
        self.target = PosixTarget(folder / "out")
        shown = SimpleNamespace(tables=lambda columns, under=None: iter([self.table.select(list(columns))]))
        fake = SimpleNamespace(
            manifest=lambda snapshot: shown, keyring=self.real.keyring, index=self.real.index, chunks=self.real.chunks
        )
        self.repository = cast(Repository, fake)

    def restore(self, **rules: Any) -> Restored:
        snapshot = cast(Any, SimpleNamespace(id="forged"))
        plan = plan_restore(self.repository, snapshot, target=self.target, **rules)
        return execute_restore(plan, self.repository, self.target)


DIRECTORY = {"kind": Kind.DIRECTORY, "mode": 0o755}


class TestForgedManifests:
    @pytest.mark.parametrize(
        ("directory", "name"),
        [
            (b"..", b"x"), (b"a/../..", b"x"), (b"/etc", b"x"), (b"a//b", b"x"), (b"a/.", b"x"), (b"a\0b", b"x"),
            (b"", b".."), (b"", b"."), (b"a", b"b/c"), (b"", b"/etc/passwd"), (b"a", b"x\0y"), (b"a", b""),
            (b"a/", b"x"),
        ],
    )  # fmt: skip
    def test_names_that_lead_outside(self, tmp_path: Path, directory: bytes, name: bytes) -> None:
        forged = Forged({b"a": DIRECTORY, b"placeholder": {}}, tmp_path)
        rows = forged.table.to_pylist()
        rows[-1] |= {"dir": directory, "name": name}
        columns = {n: [row[n] for row in rows] for n in forged.table.schema.names}
        forged.table = forged.table.from_pydict(columns, schema=forged.table.schema)
        with pytest.raises(UnsafePath) as caught:
            forged.restore()
        assert caught.value.exit_code == 61
        assert tree(tmp_path) == []

    def test_a_file_below_a_link(self, tmp_path: Path) -> None:
        """The classic: a link that leads out, then a file through it."""
        outside = tmp_path / "outside"
        outside.mkdir()
        link = {"kind": Kind.SYMLINK, "target": os.fsencode(outside)}
        with pytest.raises(UnsafePath):
            Forged({b"a": link, b"a/x": {}}, tmp_path).restore()
        assert tree(outside) == []

    def test_a_name_twice(self, tmp_path: Path) -> None:
        forged = Forged(
            {b"README": {"mode": 0o600}, b"readme": {}, b"d": DIRECTORY, b"e": DIRECTORY, b"e/x": {}}, tmp_path
        )
        columns = forged.table.to_pydict()
        columns["name"] = [{b"readme": b"README", b"e": b"d"}.get(name, name) for name in columns["name"]]
        forged.table = forged.table.from_pydict(columns, schema=forged.table.schema)
        done = forged.restore()
        assert done.warning_counts["conflict"] == 2
        assert done.exit_code == 3
        assert tree(tmp_path / "out") == ["README", "d"]
        assert stat.S_IMODE((tmp_path / "out/README").stat().st_mode) == 0o600

    def test_what_was_not_captured_is_not_made(self, tmp_path: Path) -> None:
        forged = Forged(
            {
                b"denied": {"state": State.DENIED, "digest": None},
                b"vanished": {"state": State.VANISHED, "digest": None, "size": 10},
                b"unseen": {"state": State.DENIED, "digest": None, "nlink": 0, "kind": Kind.DIRECTORY},
                b"link": {"state": State.VANISHED, "kind": Kind.SYMLINK},
                b"closed": DIRECTORY | {"state": State.DENIED},
                b"fine": {},
            },
            tmp_path,
        )
        done = forged.restore()
        assert done.warning_counts["not-captured"] == 5
        assert done.exit_code == 3
        assert tree(tmp_path / "out") == ["closed", "fine"]

    def test_holes_that_do_not_fit(self, tmp_path: Path) -> None:
        bad = [b"x", b"\1" + bytes(15), bytes(8) + b"\x10" + bytes(7)]
        forged = Forged({b"%d" % n: {"extents": extents, "size": 4} for n, extents in enumerate(bad)}, tmp_path)
        done = forged.restore()
        assert done.warning_counts["damaged"] == 3
        assert tree(tmp_path / "out") == []

    def test_times_far_away(self, tmp_path: Path) -> None:
        times = {b"9999": 253_402_300_799, b"-5000": -220_000_000_000, b"endless": (1 << 62)}
        forged = Forged({name: {"mtime": at, "mtime_ns": 7} for name, at in times.items()}, tmp_path)
        done = forged.restore()
        held = {
            name
            for name, at in times.items()
            if os.stat(tmp_path / "out" / name.decode()).st_mtime_ns == at * 10**9 + 7
        }
        clamped = {note["path"].encode() for note in done.warnings if note["code"] == "time-clamped"}
        assert held | clamped == set(times)
        assert not held & clamped
        assert done.exit_code == 0


class TestLinks:
    def test_a_part_of_a_group(self, world: World) -> None:
        for name in ("a", "b", "c"):
            (world.source / name).mkdir(parents=True)
        (world.source / "a/one").write_bytes(os.urandom(2 << 20))
        for name in ("a/two", "b/three", "c/four"):
            os.link(world.source / "a/one", world.source / name)
        world.backup()
        done = world.restore(include=["b", "c"])
        assert (done.files, done.links) == (1, 1)
        assert (world.out / "b/three").stat().st_ino == (world.out / "c/four").stat().st_ino
        assert (world.out / "b/three").stat().st_nlink == 2
        assert world.restore().links == 2
        assert world.differences() == []

    def test_names_that_were_parted(self, world: World) -> None:
        world.source.mkdir()
        (world.source / "one").write_text("content")
        os.link(world.source / "one", world.source / "two")
        world.backup()
        world.restore()
        (world.out / "two").unlink()
        shutil.copy2(world.out / "one", world.out / "two")
        assert world.restore().links == 1
        assert world.differences() == []

    @pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
    def test_where_links_cannot_be(self, world: World) -> None:
        (world.source / "mount").mkdir(parents=True)
        with open(world.source / "one", "wb") as file:
            file.truncate(64 << 20)
            os.pwrite(file.fileno(), b"data", 32 << 20)
        for name in ("mount/two", "mount/three"):
            os.link(world.source / "one", world.source / name)
        (world.source / "one").chmod(0o640)
        world.backup()
        (world.out / "mount").mkdir(parents=True)
        with mounted(world.out / "mount", "size=1m"):
            done = world.restore()
            assert done.warning_counts == {"link-copied": 1}
            assert done.exit_code == 0
            first, second = ((world.out / "mount" / name).stat() for name in ("two", "three"))
            assert first.st_ino == second.st_ino
            assert first.st_blocks * 512 < 1 << 20
            left = [d for d in world.differences() if "linked with" not in d and not d.startswith(("mount:", ".:"))]
            assert left == []


@pytest.mark.skipif(os.geteuid() != 0, reason="changes owners")
class TestOwners:
    def test_by_name(self, world: World) -> None:
        world.source.mkdir()
        (world.source / "file").touch()
        os.chown(world.source / "file", NOBODY, NOBODY)
        world.backup()
        world.restore(owners="name")
        assert world.differences() == []
        assert world.restore(overwrite="always", owners="keep").warnings == []
        assert (world.out / "file").stat().st_uid == 0
        with pytest.raises(ConfigError):
            world.restore(owners="theirs")

    def test_names_win_over_numbers(self, tmp_path: Path) -> None:
        forged = Forged({b"x": {"uid": 4711, "gid": 4712, "owner": "nobody", "group": "no such group"}}, tmp_path)
        snapshot = cast(Any, SimpleNamespace(id="forged"))
        plan = plan_restore(forged.repository, snapshot, target=forged.target)
        execute_restore(plan, forged.repository, forged.target, owners="name")
        found = (tmp_path / "out/x").stat()
        assert (found.st_uid, found.st_gid) == (NOBODY, 4712)

    def test_inherited_access_lists_do_not_stay(self, simple: World) -> None:
        simple.out.mkdir()
        done = subprocess.run(["setfacl", "-d", "-m", "u:12345:rwx", simple.out], check=False, capture_output=True)
        if done.returncode:
            pytest.skip("no access control lists here")
        (simple.out / "keep").touch()
        simple.restore()
        (simple.out / "keep").unlink()
        os.utime(simple.out, ns=(0, simple.source.stat().st_mtime_ns))
        assert simple.differences() == []


def test_every_batch_is_written(simple: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Content is read window by window; numbers of large files do not collide."""
    (simple.source / "large2").write_bytes(os.urandom(5 << 20))
    simple.backup()
    monkeypatch.setattr(restore_step, "BATCH_ROWS", 1)
    simple.restore()
    assert simple.differences() == []
    assert paths(simple.repository.manifest(simple.repository.snapshot("latest")).table())[0] == b""
