"""A directory of a POSIX file system as the target of a restore. Knows paths and descriptors, nothing of packs."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from moraine.errors import ConfigError, RestoreError
from moraine.model.entry import Kind, join_path
from moraine.model.xattrs import encode_xattrs
from moraine.sources.posix_target_attributes import read_xattrs
from moraine.sources.posix_target_beside import PosixBeside
from moraine.sources.posix_target_placing import reason
from moraine.sources.posix_target_tree import UNFINISHED, Tree, below
from moraine.sources.posix_target_writer import PosixWriter
from moraine.sources.target import FOUND, Asked, Content, Extra, TargetFacts, TargetReader, TargetWriter

_KINDS = {
    stat.S_IFREG: int(Kind.FILE),
    stat.S_IFDIR: int(Kind.DIRECTORY),
    stat.S_IFLNK: int(Kind.SYMLINK),
    stat.S_IFIFO: int(Kind.FIFO),
    stat.S_IFCHR: int(Kind.CHARACTER_DEVICE),
    stat.S_IFBLK: int(Kind.BLOCK_DEVICE),
    stat.S_IFSOCK: int(Kind.SOCKET),
}
_NOTHING = (0, 0, 0, 0, 0, 0, 0, 0, None, None, False, None, None)
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_BILLION = 10**9


class PosixTarget:
    """A directory to restore into (`sources.target.Target`); it may not exist yet."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fsencode(os.path.abspath(path))

    @property
    def url(self) -> str:
        """The path."""
        return os.fsdecode(self._path)

    def probe(self) -> TargetFacts:
        """Look at the target. Raises RestoreError when it is no directory or cannot be read."""
        owners = os.geteuid() == 0
        try:
            with os.scandir(self._path) as entries:
                empty = next(entries, None) is None
            room = os.statvfs(self._path)
        except FileNotFoundError:
            return TargetFacts(False, True, None, owners)
        except OSError as error:
            raise self._error(error, "look into") from error
        return TargetFacts(True, empty, room.f_bavail * room.f_frsize, owners)

    @contextmanager
    def reader(self) -> Iterator[TargetReader]:
        """Open the directory for looking."""
        try:
            tree = Tree(self._path)
        except OSError as error:
            raise self._error(error, "open") from error
        with tree:
            yield PosixLooker(tree)

    @contextmanager
    def writer(self, *, owners: str = "id") -> Iterator[TargetWriter]:
        """Open the directory for writing; it and its parents are made where they are missing."""
        if owners not in ("id", "name", "keep"):
            raise ConfigError(f"owners: {owners!r} is none of id, name, keep", hint="id is the default")
        try:
            os.makedirs(self._path, exist_ok=True)
            writer = PosixWriter(self._path, owners)
        except OSError as error:
            raise self._error(error, "open") from error
        with writer:
            yield writer

    def _error(self, error: OSError, what: str) -> RestoreError:
        hint = "choose a directory that this user may write to"
        return RestoreError(f"cannot {what} {self.url}: {reason(error)}", hint=hint, target=self.url)


class PosixLooker:
    """Looks at a directory (`sources.target.TargetReader`)."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._user = os.geteuid()

    def look(self, directory: bytes, rows: pa.Table) -> pa.RecordBatch:
        """What is at these names of a directory."""
        fd = self._tree.place(directory).fd
        found = [self._found(fd, name) for name in rows["name"].to_pylist()]
        columns = zip(*found, strict=True) if found else [[] for _ in FOUND]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, FOUND, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=FOUND)

    def beside(self, asked: Asked) -> PosixBeside:
        """Get ready to find extras inside what was asked for."""
        return PosixBeside(asked, self.names, self.weigh)

    def names(self, directory: bytes) -> list[bytes]:
        """The names in a directory."""
        fd = self._tree.list_fd(directory)
        try:
            return [os.fsencode(name) for name in os.listdir(fd)]
        finally:
            os.close(fd)

    def weigh(self, directory: bytes, name: bytes) -> Extra:
        """An extra with everything in it."""
        found = os.stat(name, dir_fd=self._tree.place(directory).fd, follow_symlinks=False)
        kind = _KINDS[stat.S_IFMT(found.st_mode)]
        if kind != Kind.DIRECTORY:
            return Extra(directory, name, kind, 1, found.st_size if kind == Kind.FILE else 0)
        entries, size = 1, 0
        for entry in below(self._tree, join_path(directory, name)):
            entries += 1
            size += entry.bytes
        return Extra(directory, name, kind, entries, size)

    def open(self, directory: bytes, name: bytes) -> Content | None:
        """A regular file, open for reading; None where there is none that can be read."""
        try:
            fd = os.open(name, _READ, dir_fd=self._tree.place(directory).fd)
        except OSError:
            return None
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            return None
        return PosixContent(fd, found.st_size)

    def _found(self, parent: int, name: bytes) -> tuple[object, ...]:
        try:
            found = os.stat(name or b".", dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return _NOTHING
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            return _NOTHING
        kind = _KINDS[stat.S_IFMT(found.st_mode)]
        mode = stat.S_IMODE(found.st_mode)
        target = os.readlink(name, dir_fd=parent) if kind == Kind.SYMLINK else None
        xattrs = encode_xattrs(read_xattrs(b"/proc/self/fd/%d/%s" % (parent, name or b".")))
        seconds, ns = divmod(found.st_mtime_ns, _BILLION)
        unfinished = kind == Kind.DIRECTORY and mode == UNFINISHED and found.st_uid == self._user
        size = found.st_size if kind == Kind.FILE else 0
        owner = (found.st_uid, found.st_gid)
        return kind, size, mode, *owner, seconds, ns, found.st_rdev, target, xattrs, unfinished, None, None


class PosixContent:
    """A restored file, open for reading (`sources.target.Content`)."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self.size = size

    def read_at(self, offset: int, view: memoryview) -> int:
        """Fill `view` from `offset`; fewer bytes only at the end."""
        done = 0
        while done < len(view):
            count = os.preadv(self._fd, [view[done:]], offset + done)
            if not count:
                break
            done += count
        return done

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)
