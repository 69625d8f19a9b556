"""Open directories from the root of a tree down to the current one. Knows descriptors, nothing of rows or rules.

Every step is relative to the descriptor of the parent and never follows a symlink, so paths may be longer than
PATH_MAX and nobody can lead the way out of the tree. At most `KEPT` directories besides the root stay open; a closed
ancestor is opened again from the nearest open one.
"""

from __future__ import annotations

import errno
import os

KEPT = 64
_ALWAYS = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
TO_LIST = os.O_RDONLY | os.O_NOATIME
TO_PASS = os.O_PATH


class Descent:
    """The way down to one directory at a time. Raises OSError as the system gives it."""

    def __init__(self, root: bytes, flags: int = TO_PASS) -> None:
        """Open the root (which may be a symlink to a directory).

        Args:
            root: path of the tree.
            flags: TO_LIST to read the directories entered, TO_PASS just to reach what is in them.
        """
        self._flags = flags | _ALWAYS
        self._names: list[bytes] = []
        self._fds = [-1]  # of the root, then one for each name; -1 when closed
        self._fds[0] = self._open(root, None)

    def enter(self, directory: bytes) -> int:
        """The descriptor of a directory, by its path relative to the root.

        It stays the descent's and is good until the next call.
        """
        names = directory.split(b"/") if directory else []
        level = self._common(names)
        self._leave(level)
        while self._fds[level] < 0:
            level -= 1
        for depth in range(level, len(names)):
            self._step(depth, names[depth])
        return self._fds[-1]

    def close(self) -> None:
        """Close all directories; closing twice is fine."""
        fds, self._fds, self._names = self._fds, [-1], []
        for fd in fds:
            if fd >= 0:
                os.close(fd)

    def _common(self, names: list[bytes]) -> int:
        for depth, (new, old) in enumerate(zip(names, self._names, strict=False)):
            if new != old:
                return depth
        return min(len(names), len(self._names))

    def _leave(self, level: int) -> None:
        del self._names[level:]
        while len(self._fds) > level + 1:
            if (fd := self._fds.pop()) >= 0:  # forgotten, then closed: an interrupt in between must not close it twice
                os.close(fd)

    def _step(self, depth: int, name: bytes) -> None:
        """Open the directory `name` below the one at `depth`."""
        fd = self._open(name, self._fds[depth])
        if depth < len(self._names):
            self._fds[depth + 1] = fd
        else:
            self._names.append(name)
            self._fds.append(fd)
        if (old := depth + 1 - KEPT) > 0 and self._fds[old] >= 0:
            fd, self._fds[old] = self._fds[old], -1
            os.close(fd)

    def _open(self, name: bytes, parent: int | None) -> int:
        flags = self._flags if parent is not None else self._flags & ~os.O_NOFOLLOW
        try:
            return os.open(name, flags, dir_fd=parent)
        except PermissionError as error:
            if error.errno != errno.EPERM or not flags & os.O_NOATIME:
                raise
        # Only the owner may ask for O_NOATIME. Whoever met one foreign directory will meet more: ask no further.
        fd = os.open(name, flags & ~os.O_NOATIME, dir_fd=parent)
        self._flags &= ~os.O_NOATIME
        return fd
