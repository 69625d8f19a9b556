"""Restores of real backups: equal trees, selections, plans, links and owners."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from compare import compare_trees, rsync_differences
from moraine.engine.selection import select
from moraine.errors import ConfigError, RestoreError
from moraine.steps import restore as restore_step
from moraine.steps.restore import execute_restore
from moraine.steps.restore_plan import RestorePlan, plan_restore
from nasty import access_list, make_nasty_tree, nasty_edit
from restoring import NOBODY, Forged, World, allow, make_simple, mounted, tree
from rows import paths


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def simple(world: World) -> World:
    """A small tree, backed up."""
    make_simple(world.source)
    world.backup()
    return world


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
        inherited = access_list((1, 7, -1), (2, 7, 12345), (4, 5, -1), (16, 7, -1), (32, 5, -1))
        try:
            os.setxattr(simple.out, "system.posix_acl_default", inherited)
        except OSError as error:
            pytest.skip(f"no access control lists here: {error}")
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
