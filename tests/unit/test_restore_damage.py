"""Restores from damaged repositories and of forged snapshots: what is lost is named, nothing leads outside."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from moraine.errors import MoraineError, UnsafePath
from moraine.model.entry import Kind, State
from moraine.steps.restore_verify import verify_restored
from restoring import DIRECTORY, Forged, World, make_simple, tree


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def simple(world: World) -> World:
    """A small tree, backed up."""
    make_simple(world.source)
    world.backup()
    return world


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
