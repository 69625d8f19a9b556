"""Writes into a local mirror: files go into a folder beside the tree's own, are synced together, then renamed.

So nobody who reads the tree ever meets a temporary name or half a file, and one sync pays for many small files.
"""

from __future__ import annotations

import ctypes
import os
import stat
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import NamedTuple, Self

from moraine.errors import UnsafePath
from moraine.model.entry import Kind, join_path
from moraine.sources.posix_mirror_trash import PRIVATE, Trash, make_directories
from moraine.sources.posix_target import PosixLooker
from moraine.sources.posix_target_attributes import Attributes, change_mode
from moraine.sources.posix_target_files import write_all
from moraine.sources.posix_target_links import same_file
from moraine.sources.posix_target_placing import reason, refuse
from moraine.sources.posix_target_tree import Place, Tree
from moraine.sources.posix_target_writer import MAKE
from moraine.sources.target import Code, Content, Notes, Rows

ASIDE = b"aside"
_FEW = 16  # files: up to here each is synced by itself, beyond it the whole file system is
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DEVICES = (Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE)


class PosixStaged:
    """A file being written aside (`sources.mirror.Staged`)."""

    __slots__ = ("_fd", "_name", "_writer")

    def __init__(self, writer: PosixMirrorWriter, name: bytes) -> None:
        self._writer = writer
        self._name = name
        self._fd = os.open(name, _NEW, 0o600, dir_fd=writer.aside)

    def write(self, offset: int, data: memoryview) -> None:
        """Some of its bytes."""
        write_all(self._fd, data, offset)

    def complete(self, rows: Rows, i: int, token: int, digest: bytes) -> None:
        """Size and attributes of a file that is written. Raises OSError."""
        del digest
        if rows.extents[i] is not None:
            os.ftruncate(self._fd, rows.size[i])
        self._writer.dress(self._fd, rows, i)
        self._close()
        self._writer.ready.append(_Ready(self._name, rows.dir[i], rows.name[i], token, True))

    def discard(self) -> None:
        """Leave no trace."""
        self._close()
        with suppress(OSError):
            os.unlink(self._name, dir_fd=self._writer.aside)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class _Ready(NamedTuple):
    """An entry that only needs its name."""

    aside: bytes
    directory: bytes
    name: bytes
    token: int
    file: bool


class PosixMirrorWriter:
    """One step's writing (`sources.mirror.MirrorWriter`). `mark` is a name that no other writer uses."""

    def __init__(self, root: bytes, state: bytes, trash: str, mark: str) -> None:
        self.notes = Notes()
        self._stack = ExitStack()
        self._tree = self._stack.enter_context(Tree(root))
        self._trash = Trash(os.path.join(state, b"trash"), trash)
        self._stack.callback(self._trash.close)
        self._attributes = Attributes(self.notes, "id")
        self._looker = PosixLooker(self._tree)
        self._folder = os.path.join(state, ASIDE, mark.encode())
        os.makedirs(self._folder, PRIVATE, exist_ok=True)
        self.aside = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._stack.callback(self._clear)
        # What lies aside inherits nothing from the directory it goes to: its attributes are set, all of them.
        self._place = Place(self.aside, True, os.fstat(self.aside).st_gid == os.getegid(), True)
        self._number = 0
        self.ready: list[_Ready] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def expect(self, files: object) -> None:
        """Looking is quick."""

    def stands(self, rows: Rows, i: int) -> Content | None:
        """The file that is there, if it has this size and time."""
        try:
            found = os.stat(rows.name[i], dir_fd=self._tree.place(rows.dir[i]).fd, follow_symlinks=False)
        except (OSError, UnsafePath):
            return None
        if not stat.S_ISREG(found.st_mode) or (found.st_size, found.st_mtime_ns) != (rows.size[i], rows.time[i]):
            return None
        if found.st_nlink > 1:  # which names share it is for the whole mirror to say: it gets a file of its own first
            return None
        return self._looker.open(rows.dir[i], rows.name[i])

    def directory(self, rows: Rows, i: int) -> None:
        """Make sure that a directory is there."""
        path = join_path(rows.dir[i], rows.name[i])
        try:
            self._enter(path)
        except OSError as error:
            refuse(self.notes, error, path)

    def node(self, rows: Rows, i: int, token: int) -> None:
        """Stage a symlink, FIFO, device or socket. Raises OSError."""
        kind = rows.kind[i]
        if self._stands(rows, i):
            self.refresh(rows, i)
            return
        if kind in _DEVICES and os.geteuid():
            raise PermissionError(1, "only root can make devices")
        aside = self._name()
        if kind == Kind.SYMLINK:
            os.symlink(rows.target[i] or b"", aside, dir_fd=self.aside)
        else:
            os.mknod(aside, MAKE[kind] | 0o600, rows.rdev[i], dir_fd=self.aside)
        self._attributes.set_named(self.aside, aside, join_path(rows.dir[i], rows.name[i]), rows, i)
        self.ready.append(_Ready(aside, rows.dir[i], rows.name[i], token, False))

    def file(self, rows: Rows, i: int) -> PosixStaged:
        """Begin a file. Raises OSError."""
        del rows, i
        return PosixStaged(self, self._name())

    def _stands(self, rows: Rows, i: int) -> bool:
        """Whether this very symlink or device is there."""
        place, name = self._enter(rows.dir[i]), rows.name[i]
        try:
            found = os.stat(name, dir_fd=place.fd, follow_symlinks=False)
            if rows.kind[i] == Kind.SYMLINK:
                return stat.S_ISLNK(found.st_mode) and os.readlink(name, dir_fd=place.fd) == rows.target[i]
        except FileNotFoundError:
            return False
        return stat.S_IFMT(found.st_mode) == MAKE[rows.kind[i]] and found.st_rdev == rows.rdev[i]

    def dress(self, fd: int, rows: Rows, i: int) -> None:
        """All attributes of a file that lies aside."""
        self._attributes.complete(fd, join_path(rows.dir[i], rows.name[i]), rows, i, self._place)

    def refresh(self, rows: Rows, i: int) -> None:
        """Set the attributes of an entry. Raises OSError."""
        place = self._enter(rows.dir[i])
        self._attributes.set_named(place.fd, rows.name[i], join_path(rows.dir[i], rows.name[i]), rows, i)

    def flush(self) -> list[int]:
        """Sync, then rename, in that order: a name never stands for bytes that a power cut can take back."""
        ready, self.ready = self.ready, []
        self._sync([entry.aside for entry in ready if entry.file])
        refused = []
        for entry in ready:
            path = join_path(entry.directory, entry.name)
            try:
                self._publish(entry.aside, entry.directory, entry.name)
            except OSError as error:
                refused.append(entry.token)
                with suppress(OSError):
                    os.unlink(entry.aside, dir_fd=self.aside)
                refuse(self.notes, error, path)
        return refused

    def link(self, rows: Rows, i: int, leader: tuple[bytes, bytes]) -> bool:
        """One more name of a file. Where the file system refuses, what is there stays."""
        aside = self._name()
        path = join_path(rows.dir[i], rows.name[i])
        try:
            held = os.dup(self._enter(leader[0]).fd)  # the way to a deep directory may close it
            try:
                if same_file(held, leader[1], self._enter(rows.dir[i]).fd, rows.name[i]):
                    return True
                os.link(leader[1], aside, src_dir_fd=held, dst_dir_fd=self.aside, follow_symlinks=False)
            finally:
                os.close(held)
            self._publish(aside, rows.dir[i], rows.name[i])
            with suppress(FileNotFoundError):  # rename(2) does nothing when both are names of one file
                os.unlink(aside, dir_fd=self.aside)
        except OSError as error:
            with suppress(OSError):
                os.unlink(aside, dir_fd=self.aside)
            self.notes.add(Code.COPIED, path, f"no hard link: {reason(error)}")
            return False
        return True

    def remove(self, directory: bytes, name: bytes) -> None:
        """Move an entry to the trash."""
        path = join_path(directory, name)
        try:
            self._trash.move(self._enter(directory), directory, name)
            self._tree.forget(path)
        except FileNotFoundError:
            return
        except OSError as error:
            self.notes.add(Code.EXTRA, path, f"cannot go to the trash: {reason(error)}")

    def finish(self, rows: Rows, i: int, *, attributes: bool) -> None:
        """Set the attributes of a directory."""
        path = join_path(rows.dir[i], rows.name[i])
        try:
            fd = self._tree.list_fd(path)
            try:
                if attributes:
                    self._attributes.set_open(fd, path, rows, i)
                else:
                    self._seen(fd, rows, i)
            finally:
                os.close(fd)
        except OSError as error:
            refuse(self.notes, error, path)

    def settle(self) -> None:
        """Make everything durable."""
        _sync_file_system(self.aside)

    def _seen(self, fd: int, rows: Rows, i: int) -> None:
        """What a listing shows of a directory whose extended attributes are right."""
        found = os.fstat(fd)
        if not os.geteuid() and (found.st_uid, found.st_gid) != (rows.uid[i], rows.gid[i]):
            os.chown(fd, rows.uid[i], rows.gid[i])
        if stat.S_IMODE(found.st_mode) != rows.mode[i]:
            os.chmod(fd, rows.mode[i])
        os.utime(fd, ns=(rows.time[i], rows.time[i]))

    def _enter(self, directory: bytes) -> Place:
        """The open directory; made where it is missing, and what is no directory gives way to it."""
        try:
            place = make_directories(self._tree, directory)
        except UnsafePath as error:
            wrong = error.context["path"]
            parent, _, name = wrong.rpartition(b"/")
            self._trash.give_way(self._tree.place(parent), parent, name)
            return self._enter(directory)
        if os.geteuid() and directory:
            self._open_up(place, directory)
        return place

    def _open_up(self, place: Place, directory: bytes) -> None:
        """An ordinary user cannot write into a directory that its own mode closes; `finish` closes it again."""
        mode = stat.S_IMODE(os.fstat(place.fd).st_mode)
        if mode & PRIVATE != PRIVATE:
            parent, _, name = directory.rpartition(b"/")
            with suppress(PermissionError):
                change_mode(self._tree.place(parent).fd, name, mode | PRIVATE)

    def _publish(self, aside: bytes, directory: bytes, name: bytes) -> None:
        place = self._enter(directory)
        self._trash.keep(place, directory, name)
        self._tree.forget(join_path(directory, name))
        os.rename(aside, name, src_dir_fd=self.aside, dst_dir_fd=place.fd)

    def _sync(self, names: list[bytes]) -> None:
        if len(names) > _FEW:
            _sync_file_system(self.aside)
            return
        for name in names:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.aside)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def _name(self) -> bytes:
        self._number += 1
        return b"%d" % self._number

    def _clear(self) -> None:
        with suppress(OSError):
            for name in os.listdir(self.aside):
                os.unlink(name, dir_fd=self.aside)
        os.close(self.aside)
        with suppress(OSError):
            os.rmdir(self._folder)


def _sync_file_system(fd: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.syncfs(fd):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
