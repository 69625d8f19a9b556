"""Writes a tree into a directory: what is made, removed and finished, and in which order. See `TargetWriter`."""

from __future__ import annotations

import os
import stat
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Self

from moraine.model.entry import Kind, join_path
from moraine.sources.posix_target_attributes import Attributes, change_mode, read_xattrs
from moraine.sources.posix_target_files import Files
from moraine.sources.posix_target_large import LargeFiles
from moraine.sources.posix_target_links import Links
from moraine.sources.posix_target_placing import Placing, reason, refuse
from moraine.sources.posix_target_tree import UNFINISHED, Place, Tree, below
from moraine.sources.target import Code, Extra, Notes, Rows, Verdict

MAKE = {
    int(Kind.FIFO): stat.S_IFIFO,
    int(Kind.CHARACTER_DEVICE): stat.S_IFCHR,
    int(Kind.BLOCK_DEVICE): stat.S_IFBLK,
    int(Kind.SOCKET): stat.S_IFSOCK,  # no process listens on it any more, but the name is there, as rsync does
}


class PosixWriter:
    """One restore into a directory (`sources.target.TargetWriter`)."""

    span: int | None = None  # pieces go where they belong, in any order, by any thread

    def __init__(self, root: bytes, owners: str) -> None:
        self.notes = Notes()
        self._written = dict.fromkeys(("directories", "others", "refreshed", "deleted"), 0)
        self._elsewhere: Counter[str] = Counter()  # what copies of this wrote
        self._stack = ExitStack()
        self._tree = self._stack.enter_context(Tree(root))
        self._attributes = Attributes(self.notes, owners)
        self._placing = Placing(self._tree, self.notes, self._clear)
        turn = threading.Lock()
        self._files = Files(self._attributes, self._placing, turn)
        self._large = LargeFiles(self._tree, self._attributes, self._placing, turn)
        self._links = Links(self._attributes, self._placing)
        self._stack.callback(self._large.close)
        self.files = self._files.whole
        self.begin, self.begun = self._large.begin, self._large.begun
        self.write, self.abandon = self._large.write, self._large.abandon
        self.links = self._links.make

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    @property
    def counts(self) -> dict[str, int]:
        """Entries written so far, and the stored bytes of files."""
        files, stored = self._files.count + self._large.count, self._files.stored + self._large.stored
        here = {**self._written, "files": files, "links": self._links.count, "bytes": stored}
        return {name: count + self._elsewhere[name] for name, count in here.items()}

    def join(self, counts: dict[str, int], notes: Notes) -> None:
        """Take in what a copy of this in another process has written and noted."""
        self._elsewhere.update(counts)
        self.notes.take(notes)

    def directories(self, rows: Rows) -> None:
        """Make directories, closed to others until they are finished; make those that are there writable."""
        for i, name in enumerate(rows.name):
            path = join_path(rows.dir[i], name)
            place = self._placing.place(rows.dir[i], name)
            done = False
            if place is not None:
                try:
                    done = self._directory(place, name, rows.verdict[i], path)
                except OSError as error:
                    refuse(self.notes, error, path)
            if not done:
                self._tree.blocked.add(path)

    def nodes(self, rows: Rows) -> None:
        """Make symlinks, FIFOs and devices."""
        for i, name in enumerate(rows.name):
            path = join_path(rows.dir[i], name)
            place = self._placing.place(rows.dir[i], name)
            if place is None:
                continue
            if self._refused_device(rows.kind[i], path):
                continue
            made = self._placing.make(place, name, rows.verdict[i], path, self._maker(place, rows, i))
            if made is None:
                continue
            try:
                self._attributes.set_named(place.fd, made[1], path, rows, i)
                if self._placing.settle(place, made[1], name, rows.verdict[i], path):
                    self._written["others"] += 1
            except OSError as error:
                self._placing.discard(place, made[1])
                refuse(self.notes, error, path)

    def refresh(self, rows: Rows) -> None:
        """Set the attributes of entries whose content is right."""
        for i, name in enumerate(rows.name):
            path = join_path(rows.dir[i], name)
            place = self._placing.place(rows.dir[i], name)
            if place is None:
                continue
            try:
                self._attributes.set_named(place.fd, name, path, rows, i)
                self._written["refreshed"] += 1
            except OSError as error:
                refuse(self.notes, error, path)

    def remove(self, extra: Extra) -> None:
        """Remove an extra, with all that is in it."""
        directory, name = extra.dir, extra.name
        try:
            found = os.stat(name, dir_fd=self._tree.place(directory).fd, follow_symlinks=False)
        except FileNotFoundError:
            return
        except OSError as error:
            self.notes.add(Code.EXTRA, join_path(directory, name), f"cannot be removed: {reason(error)}")
            return
        if stat.S_ISDIR(found.st_mode):
            self._clear(directory, name)
        else:
            self._drop(directory, name, folder=False)

    def finish(self, rows: Rows) -> None:
        """Set the attributes of directories, the deepest first."""
        for i, name in enumerate(rows.name):
            path = join_path(rows.dir[i], name)
            if path in self._tree.blocked:
                continue
            try:
                fd = self._tree.list_fd(path)
            except OSError as error:
                refuse(self.notes, error, path)
                continue
            try:
                self._attributes.set_open(fd, path, rows, i)
                self._written["directories"] += 1
            except OSError as error:
                refuse(self.notes, error, path)
            finally:
                os.close(fd)
            self._tree.forget(path)

    def _directory(self, place: Place, name: bytes, verdict: int, path: bytes) -> bool:
        if not name:
            if verdict == Verdict.CREATE:
                with suppress(PermissionError):  # somebody else's root cannot be closed: files come by rename then
                    os.chmod(b"/proc/self/fd/%d" % place.fd, UNFINISHED)
                self._tree.forget(b"")
            return True
        if verdict in (Verdict.MERGE, Verdict.STAY):
            self._open_up(place, name, path)
            return True
        if verdict == Verdict.REPLACE:
            os.unlink(name, dir_fd=place.fd)
        try:
            os.mkdir(name, UNFINISHED, dir_fd=place.fd)
        except FileExistsError:
            self._placing.conflict(path)
            return False
        if not place.unfinished:  # set-group-id and access control lists may have been inherited
            inherited = b"/proc/self/fd/%d/%s" % (place.fd, name)
            for attribute in read_xattrs(inherited):
                if attribute.startswith(b"system.posix_acl"):
                    os.removexattr(inherited, attribute, follow_symlinks=False)
            change_mode(place.fd, name, UNFINISHED)
        return True

    def _open_up(self, place: Place, name: bytes, path: bytes) -> None:
        """Its owner must be able to write into a directory; what it ends up with is set when it is finished."""
        found = os.stat(name, dir_fd=place.fd, follow_symlinks=False)
        if os.geteuid() and stat.S_ISDIR(found.st_mode) and found.st_mode & 0o700 != 0o700:
            with suppress(PermissionError):
                change_mode(place.fd, name, stat.S_IMODE(found.st_mode) | 0o700)
                self._tree.forget(path)

    def _refused_device(self, kind: int, path: bytes) -> bool:
        if kind not in (Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE) or not os.geteuid():
            return False
        self.notes.add(Code.SPECIAL, path, "only root can make devices")
        return True

    def _maker(self, place: Place, rows: Rows, i: int) -> Callable[[bytes], int]:
        def make(name: bytes) -> int:
            if rows.kind[i] == Kind.SYMLINK:
                os.symlink(rows.target[i] or b"", name, dir_fd=place.fd)
            else:
                os.mknod(name, MAKE[rows.kind[i]] | 0o600, rows.rdev[i], dir_fd=place.fd)
            return 0

        return make

    def _clear(self, directory: bytes, name: bytes) -> bool:
        """Remove a directory with all that is in it, but nothing on another file system; False when something stays."""
        top = join_path(directory, name)
        left = False
        for entry in below(self._tree, top):
            path = join_path(entry.dir, entry.name)
            if entry.foreign:
                self.notes.add(Code.EXTRA, path, "is on another file system: left there")
                left = True
                continue
            left |= not self._drop(entry.dir, entry.name, folder=entry.folder)
        return not left and self._drop(directory, name, folder=True)

    def _drop(self, directory: bytes, name: bytes, *, folder: bool) -> bool:
        path = join_path(directory, name)
        try:
            place = self._tree.place(directory)
            if folder:
                self._tree.forget(path)
                os.rmdir(name, dir_fd=place.fd)
            else:
                os.unlink(name, dir_fd=place.fd)
        except FileNotFoundError:
            return True
        except OSError as error:
            self.notes.add(Code.EXTRA, path, f"cannot be removed: {reason(error)}")
            return False
        self._written["deleted"] += 1
        return True
