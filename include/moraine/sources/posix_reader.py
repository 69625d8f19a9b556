"""Reads files and attributes of a POSIX tree. Knows descriptors and system calls, nothing of listings or chunks."""

from __future__ import annotations

import errno
import grp
import os
import pwd
from contextlib import suppress
from types import TracebackType
from typing import Self

from moraine.errors import SourceError, SourceVanished
from moraine.model.entry import Kind, display_path, join_path
from moraine.model.xattrs import encode_xattrs
from moraine.sources.base import Attributes, Stamp, Wanted
from moraine.sources.descent import Descent
from moraine.sources.extents import find_extents
from moraine.sources.os_errors import FORBIDDEN, NO_ATTRIBUTES, source_error

_REGULAR = 0o10  # st_mode >> 12
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DESCRIPTORS = b"/proc/self/fd"
_NO_SUCH = Stamp(-1, 0, 0, 0)  # no file has it
_PRIVILEGED = (b"security.", b"trusted.")  # attributes that an ordinary user may not always read


class PosixFile:
    """One open file (`sources.base.OpenFile`), regular as far as anybody has looked."""

    __slots__ = ("_directory", "_extents", "_fd", "_left", "_name", "_next", "_position", "_unseen", "stamp")

    def __init__(
        self,
        fd: int,
        stamp: Stamp,
        directory: bytes,
        name: bytes,
        *,
        extents: list[tuple[int, int]] | None = None,
        unseen: bool = False,
    ) -> None:
        """Take over `fd`; `unseen`: only a listing says that it is a regular file without holes and has this stamp."""
        self.stamp = stamp
        self._unseen = unseen
        self._fd = fd
        self._directory = directory
        self._name = name
        self._extents = extents
        self._next = 0  # extent
        self._position = 0
        self._left = stamp.size if extents is None else 0  # bytes up to the end of this extent

    def extents(self) -> list[tuple[int, int]] | None:
        """(offset, length) of the parts that hold data; None when the file has no holes."""
        return self._extents

    def readinto(self, view: memoryview) -> int:
        """Fill `view` with the next stored bytes, holes left out.

        Never more in all than the stamp says: of a file that grows, what was there then. A file that is cut off
        meanwhile ends early; one with holes goes on with zeros, so that it has the bytes `extents` says.

        Returns:
            The bytes read: fewer than `view` holds only at the end, then 0.
        """
        done, want = 0, len(view)
        while done < want and (self._left or self._advance()):
            part = view if self._left >= want and not done else view[done : done + self._left]
            try:
                count = os.preadv(self._fd, [part], self._position)
            except OSError as error:
                raise self._failure(error) from error
            if not count:
                if self._extents is None:
                    self._left = 0
                    break
                count = len(part)
                part[:] = bytes(count)
            done += count
            self._position += count
            self._left -= count
        return done

    def skip(self, count: int) -> None:
        """Leave out the next `count` stored bytes."""
        while count and (self._left or self._advance()):
            step = min(count, self._left)
            self._position += step
            self._left -= step
            count -= step

    def _failure(self, error: OSError) -> SourceError:
        with suppress(OSError):  # of a file that has gone from a server not even this can be asked
            if self._unseen and not _regular(os.fstat(self._fd)):
                return _no_file(self._directory, self._name)
        return source_error(error, join_path(self._directory, self._name), "read")

    def _advance(self) -> bool:
        if self._extents is None or self._next == len(self._extents):
            return False
        self._position, self._left = self._extents[self._next]
        self._next += 1
        return True

    def finish(self) -> Stamp:
        """The stamp once more, then close."""
        try:
            now = os.fstat(self._fd)
            if self._unseen and not (_regular(now) and _extents(self._fd, now) is None):
                return _NO_SUCH
        except OSError as error:
            raise source_error(error, join_path(self._directory, self._name), "look at") from error
        finally:
            self.close()
        return _stamp(now)

    def descriptor(self, directory: bytes, name: bytes) -> int | None:
        """The descriptor, if this is the file of that name and still open."""
        return self._fd if self._fd >= 0 and self._name == name and self._directory == directory else None

    def close(self) -> None:
        """Close without looking again; closing twice is fine."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class PosixReader:
    """Reads entries of a tree (`sources.base.Reader`). Cheapest for rows in manifest order; for one thread."""

    def __init__(self, root: bytes) -> None:
        """Open the root of the tree; use the reader in a `with` statement, or close it."""
        if not os.path.isdir(_DESCRIPTORS):
            raise SourceError(
                f"cannot read extended attributes: there is no {_DESCRIPTORS.decode()}",
                hint="mount /proc in this container or chroot",
            )
        try:
            self._descent = Descent(root)
        except OSError as error:
            raise source_error(error, root, "open") from error
        self._directory = b""
        self._parent = self._descent.enter(b"")
        self._flags = _OPEN | os.O_NOATIME
        self._last: PosixFile | None = None
        self._users: dict[int, str | None] = {}
        self._groups: dict[int, str | None] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the directories that are open; files stay open until they are closed themselves."""
        self._descent.close()

    def expect(self, wanted: list[Wanted]) -> None:
        """Nothing to do: the kernel reads ahead."""
        del wanted

    def open(self, directory: bytes, name: bytes, listed: Stamp | None = None) -> PosixFile:
        """Open a regular file; never follows a symlink, never blocks on a FIFO or device.

        With `listed` it is taken for the plain file that was listed, and `finish` looks whether it is: a system call
        less for each file.

        Raises:
            SourceVanished: nothing, or no regular file any more, has this path.
            SourceDenied: it may not be read.
            SourceError: the disk or the network failed.
        """
        fd = -1
        try:
            parent = self._parent if directory == self._directory else self._enter(directory)
            fd = self._open(name, parent)
            if listed is not None:
                self._last = PosixFile(fd, listed, directory, name, unseen=True)
                return self._last
            found = os.fstat(fd)
            if _regular(found):
                self._last = PosixFile(fd, _stamp(found), directory, name, extents=_extents(fd, found))
                return self._last
        except OSError as error:
            if fd >= 0:
                os.close(fd)
            raise source_error(error, join_path(directory, name), "open") from error
        os.close(fd)
        raise _no_file(directory, name)

    def attributes(self, directory: bytes, name: bytes, kind: int, uid: int, gid: int) -> Attributes:
        """Symlink target, extended attributes, owner names; errors as `open`. An empty name is the directory itself."""
        try:
            parent = self._parent if directory == self._directory else self._enter(directory)
            target = os.readlink(name, dir_fd=parent) if kind == Kind.SYMLINK else None
            fd = self._last.descriptor(directory, name) if self._last else None
            # By name: through the parent's descriptor in /proc, as symlinks have attributes too, at any depth.
            xattrs = _read_xattrs(b"%s/%d/%s" % (_DESCRIPTORS, parent, name or b".") if fd is None else fd)
        except OSError as error:
            raise source_error(error, join_path(directory, name), "read the attributes of") from error
        if uid not in self._users:
            self._users[uid] = _user(uid)
        if gid not in self._groups:
            self._groups[gid] = _group(gid)
        return Attributes(target, xattrs, self._users[uid], self._groups[gid])

    def _enter(self, directory: bytes) -> int:
        self._directory = b"\0"  # no directory: the way there may fail
        self._parent = self._descent.enter(directory)
        self._directory = directory
        return self._parent

    def _open(self, name: bytes, parent: int) -> int:
        try:
            return os.open(name, self._flags, dir_fd=parent)
        except PermissionError as error:
            if error.errno != errno.EPERM or not self._flags & os.O_NOATIME:
                raise
        # Only the owner may ask for O_NOATIME. Whoever met one foreign file will meet more: ask no further.
        fd = os.open(name, self._flags & ~os.O_NOATIME, dir_fd=parent)
        self._flags &= ~os.O_NOATIME
        return fd


def _regular(found: os.stat_result) -> bool:
    return found.st_mode >> 12 == _REGULAR


def _stamp(found: os.stat_result) -> Stamp:
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def _extents(fd: int, found: os.stat_result) -> list[tuple[int, int]] | None:
    return find_extents(fd, found.st_size) if found.st_blocks * 512 < found.st_size else None


def _no_file(directory: bytes, name: bytes) -> SourceVanished:
    path = join_path(directory, name)
    return SourceVanished(f"{display_path(path)} is no regular file any more", path=path)


def _read_xattrs(path: bytes | int) -> bytes | None:
    """The attributes of a descriptor, or of a path whose last name is no symlink to follow."""
    follow = isinstance(path, int)
    try:
        names = os.listxattr(path, follow_symlinks=follow)
    except OSError as error:
        if error.errno in NO_ATTRIBUTES:
            return None
        raise
    if not names:
        return None
    found: dict[bytes, bytes] = {}
    for name in map(os.fsencode, names):
        try:
            found[name] = os.getxattr(path, name, follow_symlinks=follow)
        except OSError as error:
            gone = error.errno == errno.ENODATA or error.errno in NO_ATTRIBUTES
            if not gone and not (error.errno in FORBIDDEN and name.startswith(_PRIVILEGED)):
                raise
    return encode_xattrs(found)


def _user(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return None


def _group(gid: int) -> str | None:
    try:
        return grp.getgrgid(gid).gr_name
    except (KeyError, OverflowError):
        return None
