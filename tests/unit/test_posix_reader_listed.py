"""A POSIX file that is read as it was listed, and looked at afterwards."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest

from moraine.errors import SourceVanished
from moraine.model.entry import Kind
from moraine.sources.base import Stamp
from moraine.sources.posix import PosixSource
from moraine.sources.posix_reader import PosixFile, PosixReader


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[PosixReader]:
    with PosixSource(tmp_path).reader() as reader:
        yield reader


def read(file: PosixFile) -> bytes:
    view = memoryview(bytearray(1 << 17))
    count = file.readinto(view)
    assert file.readinto(view) == 0
    return bytes(view[:count])


def as_listed(path: Path) -> Stamp:
    found = path.lstat()
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def test_a_listed_file_is_looked_at_when_it_has_been_read(tmp_path: Path, reader: PosixReader) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "empty").touch()
    for name, content in ((b"file", b"content"), (b"empty", b"")):
        stamp = as_listed(tmp_path / name.decode())
        file = reader.open(b"", name, stamp)
        assert (file.stamp, file.extents(), read(file)) == (stamp, None, content)
        assert reader.attributes(b"", name, Kind.FILE, 0, 0).xattrs is None
        assert file.finish() == stamp


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def _replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"1234567")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.rename(path)


def _make_sparse(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(1 << 16)


def _to(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def swap(path: Path) -> None:
        path.unlink()
        make(path)

    return swap


NOT_AS_LISTED = {
    "grown": _grow,
    "replaced": _replace,
    "touched": lambda path: os.utime(path),
    "a directory": _to(Path.mkdir),
    "a FIFO": _to(os.mkfifo),
    "a link": _to(lambda path: path.symlink_to("/etc/passwd")),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("change", NOT_AS_LISTED.values(), ids=NOT_AS_LISTED)
def test_a_file_that_is_not_as_it_was_listed_shows(
    tmp_path: Path, reader: PosixReader, change: Callable[[Path], None]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    os.utime(path, (1e9, 1e9))
    listed = as_listed(path)
    change(path)
    try:
        with closing(reader.open(b"", b"file", listed)) as file:
            assert len(read(file)) <= listed.size
            assert file.finish() != listed
    except SourceVanished:
        assert not path.is_file() or path.is_symlink()


def test_a_listing_that_says_file_of_what_is_none_shows(tmp_path: Path, reader: PosixReader) -> None:
    os.mkfifo(tmp_path / "fifo")
    listed = as_listed(tmp_path / "fifo")
    assert reader.open(b"", b"fifo", listed).finish() != listed


def test_a_file_of_which_the_server_knows_nothing_more_has_vanished(
    tmp_path: Path, reader: PosixReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS: the descriptor is there, but every call on it fails."""

    def stale(*arguments: object) -> NoReturn:
        raise OSError(errno.ESTALE, "Stale file handle")

    (tmp_path / "file").write_bytes(b"content")
    file = reader.open(b"", b"file", as_listed(tmp_path / "file"))
    with monkeypatch.context() as patched:
        patched.setattr(os, "preadv", stale)
        patched.setattr(os, "fstat", stale)
        with pytest.raises(SourceVanished):
            read(file)
        with pytest.raises(SourceVanished):
            file.finish()


def test_a_listed_file_with_holes_shows(tmp_path: Path, reader: PosixReader) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    _make_sparse(path)
    listed = as_listed(path)
    file = reader.open(b"", b"file", listed)
    assert read(file) == b"content" + bytes((1 << 16) - 7)
    assert file.finish() != listed
    with_holes = reader.open(b"", b"file")
    assert with_holes.extents() and with_holes.finish() == listed
