"""The target on its own: safe paths, temporary names, refusals, holes, and what it says of a tree."""

from __future__ import annotations

import errno
import os
import random
import stat
import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moraine.errors import DamagedObject, RestoreError, TargetFull, UnsafePath
from moraine.model.entry import Kind
from moraine.model.xattrs import encode_xattrs
from moraine.sources import posix_target_large, posix_target_tree
from moraine.sources.extents import Extents
from moraine.sources.posix_target import PosixTarget
from moraine.sources.posix_target_placing import refuse, temporary
from moraine.sources.posix_target_tree import UNFINISHED, Tree, below
from moraine.sources.target import Extra, Notes, Rows, TargetWriter, Verdict

NOW = 1_700_000_000_123_456_789


def rows(*paths: str, **columns: Any) -> Rows:
    """Rows of new regular files of the user, unless said otherwise."""
    count = len(paths)
    split = [os.path.split(path) for path in paths]
    values: dict[str, Any] = {
        "kind": int(Kind.FILE), "verdict": int(Verdict.CREATE), "size": 0, "mode": 0o644, "uid": os.geteuid(),
        "gid": os.getegid(), "owner": None, "group": None, "time": NOW, "rdev": 0, "target": None, "xattrs": None,
        "extents": None, "inode": 0, "digest": None,
    }  # fmt: skip
    lists = {name: [value] * count for name, value in (values | columns).items()}
    return Rows(dir=[os.fsencode(d) for d, _ in split], name=[os.fsencode(n) for _, n in split], **lists)


def directories(*paths: str, **columns: Any) -> Rows:
    return rows(*paths, **({"kind": int(Kind.DIRECTORY), "mode": 0o755} | columns))


def put(writer: TargetWriter, contents: Sequence[bytes], found: Rows) -> None:
    """Write whole files from one frame."""
    ends = np.cumsum([len(content) for content in contents]).tolist()
    starts = [end - len(content) for end, content in zip(ends, contents, strict=True)]
    writer.files(found, memoryview(b"".join(contents)), starts, [len(content) for content in contents])


@contextmanager
def opened(path: Path, *made: str) -> Iterator[TargetWriter]:
    with PosixTarget(path).writer() as writer:
        writer.directories(directories("", *made))
        yield writer


@contextmanager
def mounted(path: Path, options: str) -> Iterator[None]:
    """A file system of its own, for the time of a test."""
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True, check=False
    ).returncode:
        pytest.skip("cannot mount here")
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


class TestTree:
    def test_a_link_on_the_way_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "out/real/sub").mkdir(parents=True)
        (tmp_path / "outside/sub").mkdir(parents=True)
        (tmp_path / "out/link").symlink_to(tmp_path / "outside")
        (tmp_path / "out/file").touch()
        with Tree(os.fsencode(tmp_path / "out")) as tree:
            assert tree.place(b"real/sub").fd >= 0
            for path in (b"link", b"link/sub", b"file", b"file/x"):
                with pytest.raises(UnsafePath):
                    tree.place(path)
            with pytest.raises(FileNotFoundError):
                tree.place(b"no/such")

    def test_the_root_may_be_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "real/sub").mkdir(parents=True)
        (tmp_path / "link").symlink_to("real")
        with Tree(os.fsencode(tmp_path / "link")) as tree:
            assert tree.place(b"sub").fd >= 0

    def test_thousands_deep_with_few_descriptors(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(posix_target_tree, "KEPT", 8)
        name, depth = "d" * 50, 300
        before = len(os.listdir("/proc/self/fd"))
        with opened(tmp_path / "out") as writer:
            paths = ["/".join([name] * n) for n in range(1, depth + 1)]
            writer.directories(directories(*paths))
            put(writer, [b"bottom"], rows(paths[-1] + "/file"))
            writer.finish(directories(*reversed(paths)))
            assert writer.notes.counts == {}
            assert writer.counts["directories"] == depth
            assert len(os.listdir("/proc/self/fd")) < before + 20
        with PosixTarget(tmp_path / "out").reader() as reader:
            content = reader.open(os.fsencode(paths[-1]), b"file")
            assert content
            assert content.size == 6
            content.close()
            weight = reader.weigh(b"", os.fsencode(name))
            assert (weight.entries, weight.bytes) == (depth + 1, 6)
        with opened(tmp_path / "out") as writer:
            writer.remove(Extra(b"", os.fsencode(name), Kind.DIRECTORY, 1, 0))
            assert writer.counts["deleted"] == depth + 1

    @pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
    def test_other_file_systems_are_named_but_not_entered(self, tmp_path: Path) -> None:
        mount = tmp_path / "out/extra/mount"
        mount.mkdir(parents=True)
        (tmp_path / "out/extra/file").touch()
        with mounted(mount, "size=1m"):
            (mount / "precious").touch()
            with Tree(os.fsencode(tmp_path / "out")) as tree:
                assert [(e.name, e.foreign) for e in below(tree, b"extra") if e.foreign] == [(b"mount", True)]
            with opened(tmp_path / "out") as writer:
                writer.remove(Extra(b"", b"extra", Kind.DIRECTORY, 1, 0))
                assert set(writer.notes.counts) == {"extra-kept"}
            assert (mount / "precious").exists()
            assert not (tmp_path / "out/extra/file").exists()


class TestFiles:
    def test_in_place_where_the_directory_is_new(self, tmp_path: Path) -> None:
        with opened(tmp_path / "out", "d") as writer:
            assert stat.S_IMODE((tmp_path / "out/d").stat().st_mode) == UNFINISHED
            put(writer, [b"one", b"", b"three"], rows("d/a", "d/b", "c"))
            writer.finish(directories("d", mode=0o2750))
            assert writer.counts["files"] == 3
        assert (tmp_path / "out/d/a").read_bytes() == b"one"
        assert (tmp_path / "out/d/b").stat().st_mtime_ns == NOW
        assert stat.S_IMODE((tmp_path / "out/d").stat().st_mode) == 0o2750

    def test_by_rename_where_it_is_not(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        out.mkdir()
        out.joinpath("old").write_text("old")
        out.joinpath(os.fsdecode(temporary(b"new"))).write_text("left by a run that was killed")
        with PosixTarget(out).writer() as writer:
            writer.directories(directories("", verdict=int(Verdict.MERGE)))
            put(writer, [b"new"], rows("new"))
            put(writer, [b"now"], rows("old", verdict=int(Verdict.REPLACE)))
        assert sorted(os.listdir(out)) == ["new", "old"]
        assert (out / "new").read_text() == "new"
        assert (out / "old").read_text() == "now"

    def test_what_appeared_since_the_plan_is_left_alone(self, tmp_path: Path) -> None:
        for fresh in (True, False):
            out = tmp_path / str(fresh)
            out.mkdir()
            with PosixTarget(out).writer() as writer:
                writer.directories(directories("", verdict=int(Verdict.CREATE if fresh else Verdict.MERGE)))
                (out / "theirs").write_text("theirs")
                (out / "dir").mkdir()
                (out / "dir/file").touch()
                put(writer, [b"mine"], rows("theirs"))
                writer.directories(directories("dir"))
                put(writer, [b"mine"], rows("dir/file2"))
                writer.nodes(rows("theirs", kind=int(Kind.SYMLINK), target=b"x"))
                assert writer.notes.counts == {"conflict": 3, "failed": 1}
            assert (out / "theirs").read_text() == "theirs"
            assert sorted(os.listdir(out)) == ["dir", "theirs"]
            assert os.listdir(out / "dir") == ["file"]

    def test_one_refusal_does_not_stop_the_others(self, tmp_path: Path) -> None:
        with opened(tmp_path / "out") as writer:
            put(writer, [b"x", b"y"], rows("n" * 256, "fine"))
            writer.directories(directories("m" * 300))
            assert writer.notes.counts == {"failed": 2}
            assert "name too long" in writer.notes.kept[0].message
        assert os.listdir(tmp_path / "out") == ["fine"]

    def test_attributes(self, tmp_path: Path) -> None:
        wanted = encode_xattrs({b"user.a": b"1", b"user.b": b"\0"})
        with opened(tmp_path / "out") as writer:
            put(writer, [b"x"], rows("file", xattrs=wanted, mode=0o4711))
            writer.nodes(rows("fifo", kind=int(Kind.FIFO), mode=0o4, time=-1))
            writer.nodes(rows("link", kind=int(Kind.SYMLINK), target=b"to/nowhere", time=1))
            put(writer, [b"x"], rows("broken", xattrs=b"no attributes"))
            assert writer.notes.counts == {"damaged": 1}
        with PosixTarget(tmp_path / "out").reader() as reader:
            names = pa.table({"name": [b"file", b"fifo", b"link", b"no such", b"x" * 300]})
            found = reader.look(b"", names).to_pylist()
        assert (found[0]["mode"], found[0]["xattrs"], found[0]["kind"]) == (0o4711, wanted, Kind.FILE)
        assert (found[1]["mode"], found[1]["mtime"], found[1]["mtime_ns"]) == (4, -1, 999_999_999)
        assert (found[2]["target"], found[2]["mtime_ns"]) == (b"to/nowhere", 1)
        assert found[3]["kind"] == found[4]["kind"] == 0

    def test_attributes_too_large_for_the_file_system_are_no_full_target(self, tmp_path: Path) -> None:
        with opened(tmp_path / "out") as writer:
            put(writer, [b"x"], rows("file", xattrs=encode_xattrs({b"user.big": bytes(65536), b"nonsense.x": b"y"})))
            put(writer, [b"x"], rows("other"))
        assert (tmp_path / "out/file").stat().st_mtime_ns == NOW
        assert (tmp_path / "out/other").exists()
        assert writer.notes.counts["attribute-refused"] >= 1

    @pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
    def test_a_file_system_that_is_read_only(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        out.mkdir()
        with mounted(out, "ro"), pytest.raises(RestoreError, match="read-only"), PosixTarget(out).writer() as writer:
            put(writer, [b"x"], rows("file"))

    @pytest.mark.parametrize(
        ("number", "expected"),
        [
            (errno.ENOSPC, TargetFull),
            (errno.EDQUOT, TargetFull),
            (errno.EROFS, RestoreError),
            (errno.EIO, RestoreError),
        ],
    )
    def test_hopeless_refusals(self, number: int, expected: type[RestoreError]) -> None:
        with pytest.raises(expected) as caught:
            refuse(Notes(), OSError(number, os.strerror(number)), b"dir/file")
        assert caught.value.hint


class TestLargeFiles:
    def test_many_at_once_with_few_descriptors(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(posix_target_large, "OPEN_FILES", 3)
        contents = {f"f{n}": os.urandom(5000) for n in range(10)}
        with opened(tmp_path / "out") as writer:
            for piece in (3, 0, 4, 1, 2):
                for number, (name, content) in enumerate(contents.items()):
                    if not writer.begun(number):
                        writer.begin(number, rows(name, size=5000), 5)
                    writer.write(number, piece * 1000, memoryview(content)[piece * 1000 : piece * 1000 + 1000])
            assert writer.counts["files"] == 10
            assert writer.counts["bytes"] == 50_000
        for name, content in contents.items():
            assert (tmp_path / "out" / name).read_bytes() == content
            assert (tmp_path / "out" / name).stat().st_mtime_ns == NOW

    def test_several_threads_with_few_descriptors(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(posix_target_large, "OPEN_FILES", 2)
        contents = [os.urandom(20_000) for _ in range(6)]
        work = [(number, piece) for number in range(6) for piece in range(20)]
        random.Random(1).shuffle(work)
        with opened(tmp_path / "out") as writer, ThreadPoolExecutor(4) as pool:
            for number in range(6):
                writer.begin(number, rows(f"f{number}", size=20_000), 20)

            def write(number: int, piece: int) -> None:
                content = memoryview(contents[number])[piece * 1000 : piece * 1000 + 1000]
                writer.write(number, piece * 1000, content)

            for done in [pool.submit(write, *piece) for piece in work]:
                done.result()
            assert writer.counts["files"] == 6
        assert [(tmp_path / "out" / f"f{number}").read_bytes() for number in range(6)] == contents

    def test_given_up_while_a_piece_is_under_way(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The descriptor must stay what it is: a new file would get its number, and the piece."""
        under_way, go_on = threading.Event(), threading.Event()
        write_all = posix_target_large.write_all

        def slow(fd: int, data: memoryview, offset: int) -> None:
            under_way.set()
            assert go_on.wait(10)
            write_all(fd, data, offset)

        monkeypatch.setattr(posix_target_large, "write_all", slow)
        before = len(os.listdir("/proc/self/fd"))
        with opened(tmp_path / "out") as writer:
            writer.begin(0, rows("f0", size=2), 2)
            thread = threading.Thread(target=writer.write, args=(0, 0, memoryview(b"x")))
            thread.start()
            assert under_way.wait(10)
            writer.abandon(0)
            writer.begin(1, rows("f1", size=2), 2)
            go_on.set()
            thread.join()
            assert (tmp_path / "out/f1").read_bytes() == b""
            writer.write(0, 1, memoryview(b"y"))
            assert writer.counts["files"] == writer.counts["bytes"] == 0
        assert os.listdir(tmp_path / "out") == []
        assert len(os.listdir("/proc/self/fd")) == before

    @pytest.mark.parametrize("pieces", [1, 2])
    def test_a_close_that_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pieces: int) -> None:
        """A quota may be noticed then, when the number is free already: nothing may go to it any more."""
        close = os.close

        def refuse_to_close(fd: int) -> None:
            regular = stat.S_ISREG(os.fstat(fd).st_mode)
            close(fd)
            if regular:
                raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

        monkeypatch.setattr(posix_target_large, "OPEN_FILES", 1)
        with opened(tmp_path / "out") as writer:
            writer.begin(0, rows("f0", size=pieces), pieces)
            monkeypatch.setattr(os, "close", refuse_to_close)
            with pytest.raises(TargetFull):
                writer.write(0, 0, memoryview(b"x")) if pieces == 1 else writer.begin(1, rows("f1", size=2), 2)
            monkeypatch.setattr(os, "close", close)
            with (tmp_path / "innocent").open("wb"):  # gets the number
                writer.write(0, 0, memoryview(b"x"))
            assert (tmp_path / "innocent").read_bytes() == b""
        assert os.listdir(tmp_path / "out") == []

    def test_lost_by_one_thread_before_another_begins_it(self, tmp_path: Path) -> None:
        with opened(tmp_path / "out") as writer:
            writer.abandon(0)
            writer.begin(0, rows("f0", size=2), 2)
            writer.write(0, 0, memoryview(b"x"))
            assert os.listdir(tmp_path / "out") == []

    def test_what_is_not_complete_leaves_no_trace(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        out.mkdir()
        (out / "old").write_text("old")
        with PosixTarget(out).writer() as writer:
            writer.directories(directories("", verdict=int(Verdict.MERGE)))
            for number, name in enumerate(("abandoned", "half", "old")):
                verdict = Verdict.REPLACE if name == "old" else Verdict.CREATE
                writer.begin(number, rows(name, size=2, verdict=int(verdict)), 2)
                writer.write(number, 0, memoryview(b"x"))
            writer.abandon(0)
            writer.write(0, 1, memoryview(b"y"))
            writer.abandon(77)
            assert writer.begun(77)
            assert writer.counts["files"] == 0
        assert os.listdir(out) == ["old"]
        assert (out / "old").read_text() == "old"

    def test_pieces_over_several_holes(self, tmp_path: Path) -> None:
        extents = np.array([[4096, 100], [1 << 20, 4096], [1 << 24, 50]], "<i8").tobytes()
        stored = os.urandom(4246)
        with opened(tmp_path / "out") as writer:
            writer.begin(1, rows("sparse", size=1 << 25, extents=extents), 2)
            writer.write(1, 3000, memoryview(stored)[3000:])
            writer.write(1, 0, memoryview(stored)[:3000])
            assert writer.notes.counts == {}
        found = (tmp_path / "out/sparse").read_bytes()
        assert len(found) == 1 << 25
        assert found[4096:4196] + found[1 << 20 : (1 << 20) + 4096] + found[1 << 24 : (1 << 24) + 50] == stored
        assert (tmp_path / "out/sparse").stat().st_blocks * 512 < 1 << 20


class TestExtents:
    @given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), max_size=8), st.data())
    def test_pieces_are_where_the_extents_say(self, gaps: list[tuple[int, int]], data: st.DataObject) -> None:
        pairs, end = [], 0
        for gap, length in gaps:
            pairs.append((end + gap, length))
            end += gap + length
        places = [offset + n for offset, length in pairs for n in range(length)]
        extents = Extents(np.array(pairs, "<i8").tobytes(), end, b"x")
        at = data.draw(st.integers(0, len(places)))
        size = data.draw(st.integers(0, len(places) - at))
        content = memoryview(bytes(n % 251 for n in range(size)))
        written = {where + n: byte for where, piece in extents.pieces(at, content) for n, byte in enumerate(piece)}
        assert written == dict(zip(places[at : at + size], content, strict=True))
        with pytest.raises(DamagedObject):
            list(extents.pieces(at, memoryview(bytes(len(places) - at + 1))))

    @pytest.mark.parametrize("pairs", [[(0, 0)], [(-1, 5)], [(5, -1)], [(0, 11)], [(4, 2), (5, 1)], [(4, 2), (0, 1)]])
    def test_nonsense(self, pairs: list[tuple[int, int]]) -> None:
        with pytest.raises(DamagedObject):
            Extents(np.array(pairs, "<i8").tobytes(), 10, b"x")


class TestProbe:
    def test_what_is_there(self, tmp_path: Path) -> None:
        assert not PosixTarget(tmp_path / "none").probe().exists
        assert PosixTarget(tmp_path).probe().empty
        (tmp_path / "file").touch()
        facts = PosixTarget(tmp_path).probe()
        assert (facts.exists, facts.empty) == (True, False)
        assert facts.free
        with pytest.raises(RestoreError, match="file"):
            PosixTarget(tmp_path / "file").probe()
        with pytest.raises(RestoreError, match="file"), PosixTarget(tmp_path / "file").writer():
            pass
