"""Mirrors on this machine's file system: equal to their source night after night, by two independent comparers."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from compare import compare_trees
from mirroring import Nights
from moraine.errors import CommitRefused, ConfigError, GateRefused
from moraine.model.policy_mirror import STATE
from moraine.sources.posix_mirror import PosixMirror
from moraine.sources.posix_target import PosixTarget
from moraine.steps.mirror_check import check_mirror
from moraine.steps.restore import execute_restore
from moraine.steps.restore_plan import plan_restore
from moraine.steps.retain import forget
from nasty import make_nasty_tree, nasty_edit
from unprivileged import as_nobody, open_directory


@pytest.fixture
def nights(tmp_path: Path) -> Nights:
    source = tmp_path / "source"
    source.mkdir()
    return Nights(source, tmp_path / "mirror")


def test_the_nasty_tree_two_nights(nights: Nights) -> None:
    make_nasty_tree(nights.source, as_root=os.geteuid() == 0)
    first = nights.night()
    assert first.committed.exit_code == 0
    assert nights.differences() == []
    nasty_edit(nights.source)
    second = nights.night()
    assert second.drift["counts"] == {"missing": 0, "added": 0, "changed": 0, "attributes": 0}
    assert nights.differences() == []
    third = nights.night()
    assert third.committed.changed == third.committed.racy  # files of the future are read every night
    assert sum(third.drift["counts"].values()) == 0, third.drift


def small_tree(source: Path) -> None:
    for name in ("kept", "sub/edited", "sub/gone", "old/one", "old/two"):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"first {name}")


def test_what_is_replaced_or_removed_is_in_the_trash_and_goes_with_time(nights: Nights) -> None:
    small_tree(nights.source)
    nights.night()
    assert nights.trashed() == []
    (nights.source / "sub/edited").write_text("second")
    (nights.source / "sub/gone").unlink()
    for name in ("one", "two"):
        (nights.source / "old" / name).unlink()
    (nights.source / "old").rmdir()
    second = nights.night()
    assert nights.differences() == []
    assert nights.trashed() == ["old/one", "old/two", "sub/edited", "sub/gone"]
    assert second.removed == 2
    trash = nights.to / STATE / "trash" / nights.mirror.trashes()[0]
    assert (trash / "sub/edited").read_text() == "first sub/edited"
    assert (trash / "old/two").read_text() == "first old/two"
    nights.clock.advance(days=28)
    assert nights.night().purged == []
    nights.clock.advance(days=2)
    assert nights.night().purged == [trash.name]
    assert nights.trashed() == []


def test_an_unchanged_file_is_not_written_again(nights: Nights) -> None:
    small_tree(nights.source)
    nights.night()
    before = (nights.to / "kept").stat().st_ino, (nights.to / "sub/edited").stat().st_ino
    os.chmod(nights.source / "kept", 0o600)
    done = nights.night()
    assert nights.differences() == []
    assert ((nights.to / "kept").stat().st_ino, (nights.to / "sub/edited").stat().st_ino) == before
    assert done.committed.changed == 1
    assert nights.trashed() == [], "a change of mode puts nothing into the trash"


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one whenever a mirror as a whole is listed."""
    found: list[str] = []
    entries = PosixMirror.entries
    monkeypatch.setattr(PosixMirror, "entries", lambda self: found.append(self.url) or entries(self))
    return found


@pytest.mark.parametrize("rehash", [0.0, 1.0])
def test_an_unchanged_night_looks_at_the_mirror_once(nights: Nights, looks: list[str], rehash: float) -> None:
    nights.policy = replace(nights.policy, rehash=rehash)
    small_tree(nights.source)
    nights.night()
    seen = nights.seen()
    looks.clear()
    for _ in range(2):
        nights.night()
    assert len(looks) == 2
    forget(nights.repository, [nights.night().committed.snapshot], clock=nights.clock)
    assert nights.seen() == seen, "what the first night saw still holds"
    (nights.to / "stranger").write_text("theirs")
    assert [nights.night().drift["counts"]["added"] for _ in range(2)] == [1, 0]
    assert nights.differences() == []
    assert nights.seen() != seen


def test_a_sample_that_finds_another_content_is_looked_after(nights: Nights, looks: list[str]) -> None:
    compared = replace(nights.policy.source, compare=replace(nights.policy.source.compare, ctime=False))
    nights.policy = replace(nights.policy, rehash=1.0, source=compared)
    small_tree(nights.source)
    nights.night()
    kept = nights.source / "kept"
    before = kept.stat()
    kept.write_text(kept.read_text().upper())
    os.utime(kept, ns=(before.st_atime_ns, before.st_mtime_ns))  # size and time as before
    looks.clear()
    nights.night()
    assert (nights.to / "kept").read_bytes() == kept.read_bytes()
    assert len(looks) == 3


def test_a_mirror_on_another_disk_is_looked_at_anew(nights: Nights, tmp_path: Path, looks: list[str]) -> None:
    small_tree(nights.source)
    nights.night()
    shutil.copytree(nights.to, tmp_path / "disk", symlinks=True)
    moved = Nights(nights.source, tmp_path / "disk")
    moved.clock = nights.clock
    looks.clear()
    assert moved.night().drift["moved"]
    assert len(looks) == 3, "or its inode numbers would never be known"
    assert not moved.night().drift["moved"]
    assert len(looks) == 4


def drifted(nights: Nights) -> None:
    """Somebody is at work in the mirror."""
    small_tree(nights.source)
    nights.night()
    (nights.to / "sub/gone").unlink()
    (nights.to / "stranger").write_text("theirs")
    (nights.to / "theirs").mkdir()
    (nights.to / "theirs/deep").write_text("theirs too")
    edited = nights.to / "sub/edited"
    before = edited.stat()
    edited.write_text("FIRST sub/edited")
    os.utime(edited, ns=(before.st_atime_ns, before.st_mtime_ns))  # size and time as before
    os.chmod(nights.to / "old", 0o700)


DRIFT = {"missing": 1, "added": 3, "changed": 1, "attributes": 1}


def test_drift_is_named_and_healed_and_what_was_theirs_is_in_the_trash(nights: Nights) -> None:
    drifted(nights)
    done = nights.night()
    assert nights.differences() == []
    assert done.drift["counts"] == DRIFT
    assert {item["path"]: item["what"] for item in done.drift["named"]} == {
        "sub/gone": "missing", "stranger": "added", "theirs": "added", "theirs/deep": "added",
        "sub/edited": "changed", "old": "attributes",
    }  # fmt: skip
    assert nights.trashed() == ["stranger", "sub/edited", "theirs/deep"]
    assert sum(nights.night().drift["counts"].values()) == 0


def test_drift_is_refused_where_the_policy_says_so(tmp_path: Path) -> None:
    source = tmp_path / "source"
    nights = Nights(source, tmp_path / "mirror", destination={"url": str(tmp_path / "mirror"), "drift": "refuse"})
    drifted(nights)
    with pytest.raises(GateRefused, match="stranger") as caught:
        nights.night()
    assert caught.value.context["drift"]["counts"] == DRIFT
    assert (nights.to / "stranger").exists()
    nights.night(ignore_gate=True)
    assert nights.differences() == []


def test_an_emptied_source_stops_at_the_gate(nights: Nights) -> None:
    nights.policy = replace(nights.policy, gate=replace(nights.policy.gate, allow_empty=False))
    small_tree(nights.source)
    nights.night()
    for path in sorted(nights.source.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(GateRefused):
        nights.night()
    assert (nights.to / "kept").exists()


def test_a_place_that_holds_something_is_taken_over_only_when_that_is_asked_for(nights: Nights) -> None:
    small_tree(nights.source)
    (nights.to / "sub").mkdir(parents=True)
    (nights.to / "sub/theirs").write_text("not ours")
    with pytest.raises(ConfigError, match="no mirror yet"):
        nights.night()
    assert [path.name for path in nights.to.iterdir()] == ["sub"]


def test_source_and_mirror_must_lie_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one in the other"):
        Nights(tmp_path, tmp_path / "inside").night()
    with pytest.raises(ConfigError, match="one in the other"):
        Nights(tmp_path / "source", tmp_path).night()


def test_of_two_runs_at_once_the_later_is_refused_and_the_next_is_right(nights: Nights) -> None:
    from moraine.steps import route as steps

    small_tree(nights.source)
    nights.night()
    (nights.source / "sub/edited").write_text("second")
    real = steps.commit_mirror

    def commit(*args: object) -> object:
        steps.commit_mirror = real  # type: ignore[assignment]
        (nights.source / "late").write_text("came later")
        nights.night(mark="2", alive=True)
        return real(*args)  # type: ignore[arg-type]

    steps.commit_mirror = commit  # type: ignore[assignment]
    with pytest.raises(CommitRefused, match="another run"):
        nights.night(mark="1", alive=True)
    assert nights.differences() == []
    done = nights.night()
    assert sum(done.drift["counts"].values()) == 0
    assert nights.differences() == []


def restore(nights: Nights, snapshot: str, to: Path) -> dict[str, int]:
    repository = nights.repository
    target = PosixTarget(to)
    plan = plan_restore(repository, repository.snapshot(snapshot), target=target)
    return execute_restore(plan, repository, target, verify=True).warning_counts


def test_a_restore_from_a_mirror_is_equal(nights: Nights, tmp_path: Path) -> None:
    make_nasty_tree(nights.source, as_root=os.geteuid() == 0)
    nights.night()
    assert restore(nights, "latest", tmp_path / "restored") == {}
    assert compare_trees(nights.source, tmp_path / "restored") == []


def test_the_night_before_comes_back_from_tree_and_trash(nights: Nights, tmp_path: Path) -> None:
    small_tree(nights.source)
    (nights.source / "large").write_bytes(os.urandom(9 << 20))
    first = nights.night().committed.snapshot
    subprocess.run(["cp", "-a", f"{nights.source}/.", tmp_path / "first"], check=True)
    (nights.source / "sub/edited").write_text("second")
    (nights.source / "large").write_bytes(b"small now")
    (nights.source / "sub/gone").unlink()
    nights.night()
    (nights.source / "sub/edited").write_text("third!!")
    nights.night()
    assert restore(nights, first, tmp_path / "restored") == {}
    assert compare_trees(tmp_path / "first", tmp_path / "restored") == []
    nights.clock.advance(days=60)
    nights.night()
    assert restore(nights, first, tmp_path / "again")["damaged"] == 3, "purged: named as lost"


def test_a_check_names_drift_and_bytes_that_rotted(nights: Nights) -> None:
    drifted(nights)
    found = check_mirror(nights.repository, read_data=1.0, clock=nights.clock)
    assert {problem["code"] for problem in found.problems} == {
        "mirror-missing", "mirror-added", "mirror-changed", "mirror-attributes", "mirror-content",
    }  # fmt: skip
    assert sorted(p["paths"][0] for p in found.problems if p["code"] == "mirror-content") == ["sub/edited", "sub/gone"]
    nights.night()
    assert check_mirror(nights.repository, read_data=1.0, clock=nights.clock).problems == []


def test_what_an_ordinary_user_cannot_read_stays_in_the_mirror() -> None:
    def nights_of_nobody() -> None:
        nights = Nights(root / "source", root / "mirror", limits={"unreadable_share": 1.0})
        small_tree(nights.source)
        nights.night()
        os.chmod(nights.source / "old", 0)
        for done in (nights.night(), nights.night()):
            assert done.committed.exit_code == 3
            assert sorted(path.name for path in (nights.to / "old").iterdir()) == ["one", "two"]
            assert done.drift["counts"] == dict.fromkeys(DRIFT, 0)
        os.chmod(nights.source / "old", 0o755)
        assert nights.night().committed.exit_code == 0
        assert nights.differences() == []

    with open_directory() as root:
        as_nobody(root, nights_of_nobody)
