"""Reading files and attributes of a POSIX tree."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from moraine.errors import SourceDenied, SourceError, SourceVanished
from moraine.model.entry import Kind
from moraine.model.xattrs import decode_xattrs
from moraine.sources.base import ListShard, Stamp
from moraine.sources.extents import find_extents
from moraine.sources.posix import PosixSource
from moraine.sources.posix_reader import PosixFile, PosixReader
from nasty import MIB, fill, make_nasty_tree
from unprivileged import as_nobody, open_directory

AS_ROOT = os.geteuid() == 0


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[PosixReader]:
    with PosixSource(tmp_path).reader() as reader:
        yield reader


def stored(file: PosixFile, size: int = 70_001) -> bytes:
    """All stored bytes, through a view of an odd size; full until the end, as the port says."""
    view = memoryview(bytearray(b"\xaa" * size))
    parts = []
    while count := file.readinto(view):
        parts.append(bytes(view[:count]))
    assert all(len(part) == size for part in parts[:-1])
    assert file.readinto(view) == 0
    return b"".join(parts)


def logical(file: PosixFile, content: bytes) -> bytes:
    """The bytes with the holes put back."""
    extents = file.extents()
    if extents is None:
        return content
    out, at = bytearray(file.stamp.size), 0
    for offset, length in extents:
        out[offset : offset + length] = content[at : at + length]
        at += length
    assert at == len(content)
    return bytes(out)


def test_every_file_of_the_nasty_tree_reads_back() -> None:
    beyond_path_max = 0
    with open_directory() as root:
        make_nasty_tree(root, as_root=AS_ROOT)
        source = PosixSource(root)
        rows = [row for batch in source.list(ListShard("all")) for row in batch.to_pylist()]
        with source.reader() as reader:
            for row in rows:
                if row["kind"] != Kind.FILE or row["size"] > 100 * MIB or not (AS_ROOT or row["mode"] & 0o400):
                    continue
                file = reader.open(row["dir"], row["name"])
                content = logical(file, stored(file))
                assert file.finish() == file.stamp
                if len(row["dir"]) > 4000:
                    beyond_path_max += 1
                    assert content == b"depth 20"
                else:
                    path = os.fsencode(root) + b"/" + row["dir"] + b"/" + row["name"]
                    assert content == Path(os.fsdecode(path)).read_bytes()
    assert beyond_path_max == 1


def test_holes_are_found_and_not_read(tmp_path: Path, reader: PosixReader) -> None:
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(1 << 40)
        os.pwrite(file.fileno(), fill(MIB), 1 << 39)
    found = reader.open(b"", b"sparse")
    assert found.extents() == [(1 << 39, MIB)]
    assert stored(found) == fill(MIB)
    assert found.finish().size == 1 << 40
    (tmp_path / "hole").touch()
    os.truncate(tmp_path / "hole", MIB)
    nothing = reader.open(b"", b"hole")
    assert nothing.extents() == []
    assert stored(nothing) == b""
    nothing.close()
    (tmp_path / "dense").write_bytes(bytes(MIB))
    dense = reader.open(b"", b"dense")
    assert dense.extents() is None
    assert stored(dense) == bytes(MIB)
    dense.close()
    dense.close()


def test_very_many_extents_are_joined_over_small_holes(tmp_path: Path) -> None:
    with open(tmp_path / "holes", "wb+") as file:
        file.truncate(4 * MIB)
        for n in range(32):
            os.pwrite(file.fileno(), b"x" * 4096, n * 131_072 + (n % 2) * 65_536)
        assert len(find_extents(file.fileno(), 4 * MIB) or ()) == 32
        few = find_extents(file.fileno(), 4 * MIB, limit=20)
        assert few is not None
        assert 16 <= len(few) <= 20  # only the smaller ones of the holes
        for n in range(32):
            at = n * 131_072 + (n % 2) * 65_536
            assert any(start <= at and at + 4096 <= start + length for start, length in few)


def test_a_change_while_reading_shows_in_the_stamp(tmp_path: Path, reader: PosixReader) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a" * 100_000)
    file = reader.open(b"", b"log")
    with path.open("ab") as log:
        log.write(b"b" * 50_000)
    assert stored(file) == b"a" * 100_000  # what was there when it was opened
    assert file.finish() != file.stamp

    file = reader.open(b"", b"log")
    os.truncate(path, 1000)
    assert stored(file) == b"a" * 1000
    assert file.finish().size == 1000

    os.truncate(path, 10 * MIB)
    file = reader.open(b"", b"log")
    extents = file.extents()
    assert extents is not None
    os.truncate(path, 500)
    content = stored(file)
    assert content == b"a" * 500 + bytes(sum(length for _, length in extents) - 500)
    assert file.finish() != file.stamp

    file = reader.open(b"", b"log")
    before = path.stat()
    path.write_bytes(b"z" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.finish()
    assert (after.size, after.mtime_ns) == (file.stamp.size, file.stamp.mtime_ns)
    assert after != file.stamp  # ctime


def test_the_stamp_is_that_of_the_listing(tmp_path: Path, reader: PosixReader) -> None:
    (tmp_path / "file").write_bytes(b"123")
    found = (tmp_path / "file").stat()
    file = reader.open(b"", b"file")
    assert file.stamp == Stamp(3, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    file.close()


def test_what_is_no_regular_file_any_more_has_vanished(tmp_path: Path, reader: PosixReader) -> None:
    (tmp_path / "file").write_bytes(b"secret")
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "file").write_bytes(b"inside")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "to-directory").symlink_to("directory")
    os.mkfifo(tmp_path / "fifo")
    gone = [
        (b"", b"missing"), (b"missing", b"file"), (b"", b"link"), (b"", b"fifo"), (b"", b"directory"), (b"file", b"x"),
        (b"to-directory", b"file"), (b"directory/deeper", b"file"),
    ]  # fmt: skip
    for directory, name in gone:
        with pytest.raises(SourceVanished):
            reader.open(directory, name)
    reader.open(b"directory", b"file").close()  # none of that led the reader astray
    before = len(os.listdir("/proc/self/fd"))
    for directory, name in gone * 5:
        with pytest.raises(SourceVanished):
            reader.open(directory, name)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_way_that_failed_does_not_lead_astray(tmp_path: Path, reader: PosixReader) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(name.encode())
    for _ in range(2):
        assert stored(reader.open(b"one", b"file")) == b"one"
        with pytest.raises(SourceVanished):
            reader.open(b"two/missing", b"file")


def test_reading_leaves_the_access_time(tmp_path: Path, reader: PosixReader) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    os.utime(path, ns=(1, 2))  # older than mtime: even relatime would move it
    file = reader.open(b"", b"file")
    stored(file)
    file.finish()
    assert path.stat().st_atime_ns == 1


@pytest.mark.skipif(not AS_ROOT, reason="needs files of somebody else")
def test_without_the_right_to_keep_access_times_it_still_reads() -> None:
    with open_directory() as root:
        (root / "sub").mkdir()
        (root / "sub" / "file").write_bytes(b"foreign")

        def check() -> None:
            source = PosixSource(root)
            assert sum(batch.num_rows for batch in source.list(ListShard("all"))) == 3
            with source.reader() as reader:
                assert stored(reader.open(b"sub", b"file")) == b"foreign"

        as_nobody(root, check, give=False)


def test_attributes_of_every_kind(tmp_path: Path, reader: PosixReader) -> None:
    os.symlink(b"\xff/target\n", tmp_path / "link")
    (tmp_path / "plain").touch()
    (tmp_path / "rich").touch()
    os.setxattr(tmp_path / "rich", b"user.\xff", b"\0binary")
    os.setxattr(tmp_path / "rich", "user.empty", b"")
    os.setxattr(tmp_path, "user.root", b"r")
    os.mkfifo(tmp_path / "fifo")
    assert reader.attributes(b"", b"link", Kind.SYMLINK, 0, 0).target == b"\xff/target\n"
    plain = reader.attributes(b"", b"plain", Kind.FILE, 0, 0)
    assert (plain.target, plain.xattrs, plain.owner, plain.group) == (None, None, "root", "root")
    rich = reader.attributes(b"", b"rich", Kind.FILE, 0, 0)
    assert decode_xattrs(rich.xattrs) == {b"user.\xff": b"\0binary", b"user.empty": b""}
    file = reader.open(b"", b"rich")  # through the open file it is the same, also when the name has moved on
    (tmp_path / "rich").rename(tmp_path / "moved")
    assert reader.attributes(b"", b"rich", Kind.FILE, 0, 0).xattrs == rich.xattrs
    assert reader.attributes(b"", b"plain", Kind.FILE, 0, 0).xattrs is None
    file.close()
    with pytest.raises(SourceVanished):
        reader.attributes(b"", b"rich", Kind.FILE, 0, 0)
    assert decode_xattrs(reader.attributes(b"", b"", Kind.DIRECTORY, 0, 0).xattrs) == {b"user.root": b"r"}
    assert reader.attributes(b"", b"fifo", Kind.FIFO, 0, 0).xattrs is None
    nobody = reader.attributes(b"", b"plain", Kind.FILE, 3_999_999_999, 0xFFFFFFFF)
    assert (nobody.owner, nobody.group) == (None, None)
    with pytest.raises(SourceVanished):
        reader.attributes(b"", b"missing", Kind.FILE, 0, 0)
    with pytest.raises(SourceError):  # no symlink any more
        reader.attributes(b"", b"plain", Kind.SYMLINK, 0, 0)


def test_a_reader_of_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceVanished):
        PosixSource(tmp_path / "missing").reader()
    (tmp_path / "file").touch()
    with pytest.raises((SourceVanished, SourceDenied)):
        PosixSource(tmp_path / "file").reader()


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"x")
    before = len(os.listdir("/proc/self/fd"))
    with PosixSource(tmp_path).reader() as reader:
        for _ in range(3):
            reader.open(b"a/b", b"file").finish()
            reader.attributes(b"a", b"b", Kind.DIRECTORY, 0, 0)
    assert len(os.listdir("/proc/self/fd")) == before
