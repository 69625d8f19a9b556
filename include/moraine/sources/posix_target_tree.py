"""Open directories of a target, by path. Knows descriptors and what new entries inherit; nothing of rows or rules.

Writes come in the order of packs, so directories alternate: the most recent ones stay open. Every step is relative to
the parent's descriptor and follows no symlink, so a path may be longer than PATH_MAX and nobody, not even by swapping
a directory for a symlink meanwhile, leads a write out of the target.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple, Self

from moraine.errors import UnsafePath
from moraine.model.entry import display_path, join_path

UNFINISHED = 0o1700  # mode of a directory that a restore made and has not finished; nothing else uses it
KEPT = 192
_PATH = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_DEFAULT_ACL = "system.posix_acl_default"


class Place(NamedTuple):
    """An open directory and what entries made in it get."""

    fd: int  # O_PATH: to go on from, not to read
    unfinished: bool  # made by a restore, still closed to others
    own_group: bool  # new entries get this process's group
    inherits: bool  # new entries get access control lists


class Tree:
    """The directories of a target. Raises OSError as the system gives it, UnsafePath for a link on the way."""

    def __init__(self, root: bytes) -> None:
        """Open the root, which may be a symlink to a directory."""
        self._gid = os.getegid()
        fd = os.open(root, _PATH & ~os.O_NOFOLLOW)
        self._root = self._place(fd)
        self._open: OrderedDict[bytes, Place] = OrderedDict()
        self.blocked: set[bytes] = set()  # directories that could not be made: what is in them has no place

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for place in self._open.values():
            os.close(place.fd)
        self._open.clear()
        os.close(self._root.fd)

    def place(self, directory: bytes) -> Place:
        """The open directory; good until `KEPT` others were asked for."""
        if not directory:
            return self._root
        found = self._open.get(directory)
        if found is not None:
            self._open.move_to_end(directory)
            return found
        return self._descend(directory)

    def forget(self, directory: bytes) -> None:
        """The directory was replaced, removed or changed: look at it anew when it is asked for."""
        if not directory:
            old, self._root = self._root, self._place(os.open(b".", _PATH, dir_fd=self._root.fd))
            os.close(old.fd)
        elif directory in self._open:
            os.close(self._open.pop(directory).fd)

    def list_fd(self, directory: bytes) -> int:
        """A new descriptor to list or change the directory by; the caller closes it."""
        parent, _, name = directory.rpartition(b"/")
        return os.open(name or b".", LIST, dir_fd=self.place(parent).fd)

    def _descend(self, directory: bytes) -> Place:
        start = directory
        while start and start not in self._open:
            start = start.rpartition(b"/")[0]
        place = self.place(start)
        at = len(start) + 1 if start else 0
        while at <= len(directory):
            end = directory.find(b"/", at)
            end = len(directory) if end < 0 else end
            path = directory[:end]
            if path in self.blocked:
                raise FileNotFoundError(errno.ENOENT, "its directory could not be restored")
            place = self._step(place.fd, directory[at:end], path)
            at = end + 1
        return place

    def _step(self, parent: int, name: bytes, path: bytes) -> Place:
        try:
            fd = os.open(name, _PATH, dir_fd=parent)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise UnsafePath(
                    f"{display_path(path)} in the target is a link or file where a directory is expected",
                    hint="something else writes to the target: stop it, look at that path, then plan again",
                    path=path,
                ) from error
            raise
        place = self._open[path] = self._place(fd)
        if len(self._open) > KEPT:
            os.close(self._open.popitem(last=False)[1].fd)
        return place

    def _place(self, fd: int) -> Place:
        found = os.fstat(fd)
        own = found.st_gid == self._gid
        unfinished = stat.S_IMODE(found.st_mode) == UNFINISHED and found.st_uid == os.geteuid()
        return Place(fd, unfinished, own, not unfinished and _DEFAULT_ACL in _attributes(fd))


class Below(NamedTuple):
    """An entry somewhere below a directory."""

    dir: bytes
    name: bytes
    folder: bool
    bytes: int
    foreign: bool  # on another file system: named, but not entered


def below(tree: Tree, top: bytes) -> Iterator[Below]:
    """Everything below a directory of the target, the content of a directory before itself; at any depth.

    Holds the names of one directory and the directories still to come. Entries may be removed as they are named.
    """
    fd = tree.list_fd(top)
    device = os.fstat(fd).st_dev
    waiting: list[tuple[Below | None, bytes, bool]] = [(None, top, False)]
    os.close(fd)
    while waiting:
        entry, path, entered = waiting.pop()
        if entered:
            if entry is not None:
                yield entry
            continue
        waiting.append((entry, path, True))
        for found in _scan(tree, path, device):
            if found.folder and not found.foreign:
                waiting.append((found, join_path(path, found.name), False))
            else:
                yield found


def _scan(tree: Tree, directory: bytes, device: int) -> list[Below]:
    fd = tree.list_fd(directory)
    try:
        found: list[Below] = []
        with os.scandir(fd) as entries:
            for entry in entries:
                seen = entry.stat(follow_symlinks=False)
                folder = stat.S_ISDIR(seen.st_mode)
                size = seen.st_size if stat.S_ISREG(seen.st_mode) else 0
                found.append(Below(directory, os.fsencode(entry.name), folder, size, seen.st_dev != device))
        return found
    finally:
        os.close(fd)


def _attributes(fd: int) -> list[str]:
    try:
        return os.listxattr(b"/proc/self/fd/%d/." % fd)
    except OSError:  # no attributes on this file system, or no /proc
        return []
