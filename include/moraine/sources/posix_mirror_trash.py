"""Directories of a local mirror and of its trash: opened, made where they are missing, and entries moved between them.

Everything is relative to descriptors and follows no symlink, as in `posix_target_tree`.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from moraine.errors import RestoreError, UnsafePath
from moraine.model.entry import display_path, join_path
from moraine.sources.posix_target_placing import reason
from moraine.sources.posix_target_tree import Place, Tree

PRIVATE = 0o700
_MOST = 1000  # generations of one path in one trash
_LINKLESS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS})


def make_directories(tree: Tree, directory: bytes) -> Place:
    """The open directory; it and those above are made where they are missing. Raises UnsafePath, OSError."""
    try:
        return tree.place(directory)
    except FileNotFoundError:
        parent, _, name = directory.rpartition(b"/")
        place = make_directories(tree, parent)
        with suppress(FileExistsError):
            os.mkdir(name, PRIVATE, dir_fd=place.fd)
        return tree.place(directory)


class Trash:
    """What one run takes out of the tree. Directories of it are made when the first entry comes."""

    def __init__(self, folder: bytes, name: str) -> None:
        """Args: `folder` holds all trashes; `name` is this run's."""
        self._folder = folder
        self._name = name.encode()
        self._trees: dict[int, Tree] = {}
        self.count = 0

    def close(self) -> None:
        """Close what is open."""
        for tree in self._trees.values():
            tree.__exit__(None, None, None)
        self._trees.clear()

    def keep(self, place: Place, directory: bytes, name: bytes) -> bool:
        """Put an entry that is about to be replaced into the trash.

        A directory is moved. Anything else stays visible: the trash gets one more name of it, and the rename that
        replaces it takes the old one away. True when nothing is at the name any more.
        """
        try:
            found = os.stat(name, dir_fd=place.fd, follow_symlinks=False)
        except FileNotFoundError:
            return True
        if stat.S_ISDIR(found.st_mode):
            self.move(place, directory, name)
            return True
        try:
            self._linked(place, directory, name, found)
            return False
        except OSError as error:
            if error.errno not in _LINKLESS:
                raise
        self.move(place, directory, name)  # no second name on this file system, or for this file
        return True

    def give_way(self, place: Place, directory: bytes, name: bytes) -> None:
        """Move what stands where a directory is to be. One that another writer has made there meanwhile stays."""
        with suppress(FileNotFoundError, IsADirectoryError):
            found = os.stat(name, dir_fd=place.fd, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                return
            try:
                self._linked(place, directory, name, found)
            except OSError as error:
                if error.errno not in _LINKLESS:
                    raise
                self.move(place, directory, name)
            else:
                os.unlink(name, dir_fd=place.fd)

    def move(self, place: Place, directory: bytes, name: bytes) -> None:
        """Move an entry, with all that is in it, to the trash. Raises RestoreError, OSError."""
        for number in range(_MOST):
            there = make_directories(self._tree(number), directory)
            with suppress(FileNotFoundError):
                os.stat(name, dir_fd=there.fd, follow_symlinks=False)
                continue  # an earlier try of this run has put one here: both are kept
            try:
                os.rename(name, name, src_dir_fd=place.fd, dst_dir_fd=there.fd)
            except OSError as error:
                raise _elsewhere(error, join_path(directory, name)) from error
            self.count += 1
            return
        raise _crowded(join_path(directory, name))

    def _linked(self, place: Place, directory: bytes, name: bytes, found: os.stat_result) -> None:
        for number in range(_MOST):
            there = make_directories(self._tree(number), directory)
            try:
                os.link(name, name, src_dir_fd=place.fd, dst_dir_fd=there.fd, follow_symlinks=False)
                self.count += 1
                return
            except FileExistsError:
                held = os.stat(name, dir_fd=there.fd, follow_symlinks=False)
                if (held.st_dev, held.st_ino) == (found.st_dev, found.st_ino):
                    return  # kept by a try that was killed before the rename
        raise _crowded(join_path(directory, name))

    def _tree(self, number: int) -> Tree:
        if number not in self._trees:
            root = os.path.join(self._folder, self._name + (b".%d" % (number + 1) if number else b""))
            os.makedirs(root, PRIVATE, exist_ok=True)
            self._trees[number] = Tree(root)
        return self._trees[number]


def _elsewhere(error: OSError, path: bytes) -> Exception:
    if error.errno != errno.EXDEV:
        return error
    return RestoreError(
        f"{display_path(path)} in the mirror cannot go to the trash: {reason(error)}",
        hint="a mirror is on one file system: unmount what is mounted inside it",
        path=path,
    )


def _crowded(path: bytes) -> UnsafePath:
    return UnsafePath(f"the trash has {_MOST} of {display_path(path)} already", hint="something is wrong: look there")
