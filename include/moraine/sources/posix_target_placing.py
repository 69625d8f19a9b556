"""How a new entry gets its name in a target: in place, or under a temporary name that is exchanged at the end.

In a directory that this or an interrupted restore made, a new entry is made in place: nobody else sees it yet, and its
time, by which a later run knows it as complete, is set last. Everywhere else an entry appears by rename, complete.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b

from moraine.errors import RestoreError, TargetFull
from moraine.model.entry import display_path, join_path
from moraine.sources.posix_target_tree import Place, Tree
from moraine.sources.target import Code, Notes, Verdict

_CREATE = int(Verdict.CREATE)
_REPLACE_TREE = int(Verdict.REPLACE_TREE)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FAULT = "the disk or the network file system reports a fault: look at the kernel's log (dmesg)"
_FILES = "raise the limit of open files (ulimit -n)"
_HOPELESS = {
    errno.EROFS: "the file system is read-only: mount it for writing",
    errno.EIO: _FAULT,
    errno.ESTALE: _FAULT,
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
}


def reason(error: OSError) -> str:
    """What the system said, in lower case."""
    return (error.strerror or str(error)).lower()


def refuse(notes: Notes, error: OSError, path: bytes, what: str = "cannot be written") -> None:
    """Note that the system refused an entry; raise where going on makes no sense.

    Raises:
        TargetFull: no space or quota is left.
        RestoreError: the target is read-only or fails.
    """
    shown = display_path(path) or "."
    if error.errno in _FULL:
        raise TargetFull(
            f"the target has no space left at {shown}: {reason(error)}",
            hint="make room and run the same restore again: it goes on where it stopped",
            path=path,
        ) from error
    if error.errno in _HOPELESS:
        raise RestoreError(f"{shown} {what}: {reason(error)}", hint=_HOPELESS[error.errno], path=path) from error
    notes.add(Code.FAILED, path, f"{what}: {reason(error)}")


def temporary(name: bytes) -> bytes:
    """The name an entry has until it is complete; the same in every run, so that leftovers are used again."""
    return b".moraine-" + blake2b(name, digest_size=12).hexdigest().encode()


class Placing:
    """Names of new entries; one per restore."""

    def __init__(self, tree: Tree, notes: Notes, clear: Callable[[bytes, bytes], bool]) -> None:
        """Args: `clear` removes a directory with all that is in it; False (noted) when something is left."""
        self._tree = tree
        self._clear = clear
        self.notes = notes

    def place(self, directory: bytes, name: bytes) -> Place | None:
        """The open directory of an entry; None, and noted, when there is none."""
        try:
            return self._tree.place(directory)
        except OSError as error:
            refuse(self.notes, error, join_path(directory, name))
            return None

    def make(
        self, place: Place, name: bytes, verdict: int, path: bytes, create: Callable[[bytes], int]
    ) -> tuple[int, bytes] | None:
        """Call `create` with the name to use first: what it returns and that name; None, and noted, if it cannot be."""
        direct = verdict == _CREATE and place.unfinished
        first = name if direct else temporary(name)
        try:
            try:
                return create(first), first
            except FileExistsError:
                if direct:
                    self.conflict(path)
                    return None
            os.unlink(first, dir_fd=place.fd)  # left by a run that was killed
            return create(first), first
        except OSError as error:
            refuse(self.notes, error, path)
            return None

    def settle(self, place: Place, first: bytes, name: bytes, verdict: int, path: bytes) -> bool:
        """Give a complete entry its name; False, and noted, when it cannot have it. Raises OSError."""
        if first is name:
            return True
        if verdict == _CREATE and self._taken(place, name):
            self.discard(place, first)
            self.conflict(path)
            return False
        if verdict == _REPLACE_TREE and not self._clear(path.rpartition(b"/")[0], name):
            self.discard(place, first)
            return False
        os.rename(first, name, src_dir_fd=place.fd, dst_dir_fd=place.fd)
        return True

    def discard(self, place: Place, first: bytes) -> None:
        """Remove an entry that will not be complete. Where that fails, its time tells it from a complete one."""
        with suppress(OSError):
            os.unlink(first, dir_fd=place.fd)

    def conflict(self, path: bytes) -> None:
        """Note that a name is taken."""
        self.notes.add(
            Code.CONFLICT, path, "the target has this name already, perhaps in another case or form: left as it is"
        )

    def _taken(self, place: Place, name: bytes) -> bool:
        try:
            os.stat(name, dir_fd=place.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True
