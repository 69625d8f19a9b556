"""Setting owners, modes, times and extended attributes of restored entries. Knows system calls, nothing of content.

The order matters: a change of owner clears set-user-id bits and capabilities, attributes of a read-only file cannot be
set by its owner, and everything but the time itself changes the time.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

from moraine.errors import DamagedObject
from moraine.model.entry import Kind, display_path
from moraine.model.xattrs import decode_xattrs
from moraine.sources.posix_target_placing import reason
from moraine.sources.posix_target_tree import Place
from moraine.sources.target import Code, Notes, Rows

PRIVATE = 0o600  # mode of a file until it is complete
_SET_ID = stat.S_ISUID | stat.S_ISGID
_REFUSED = frozenset({errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOTSUP, errno.E2BIG, errno.ERANGE})
_UNUSUAL = (1 << 31) * 10**9  # file systems differ in what times they hold beyond 2038 and before 1970


class _Owner(NamedTuple):
    """Whose an entry becomes."""

    uid: int  # -1: as it is made
    gid: int
    foreign: bool  # the row names somebody else
    given: bool  # new entries have to be given to them


class Attributes:
    """Sets attributes the way one restore wants it; `owners` as in `Target.writer`."""

    def __init__(self, notes: Notes, owners: str) -> None:
        self._notes = notes
        self._by_name, self._keep = owners == "name", owners == "keep"
        self._uid, self._gid = os.geteuid(), os.getegid()
        self._root = not self._keep and self._uid == 0
        self._groups = frozenset() if self._keep else frozenset(os.getgroups())
        self._owners: dict[tuple[int, int, str | None, str | None], _Owner] = {}

    def complete(self, fd: int, path: bytes, rows: Rows, i: int, place: Place) -> None:
        """All attributes of a new regular file that is open and written."""
        owner = self._owner(rows, i)
        foreign = owner.foreign
        if foreign:
            self._note_owner(path)
        if owner.given or not place.own_group:
            foreign |= not self._give(path, fd, owner)
        if rows.xattrs[i] is not None or place.inherits:
            self._set_xattrs(path, fd, rows.xattrs[i], exact=place.inherits)
        mode = rows.mode[i]
        if mode != PRIVATE:
            os.chmod(fd, self._safe_mode(path, mode) if foreign and mode & _SET_ID else mode)
        self._set_time(path, fd, rows.time[i])

    def set_open(self, fd: int, path: bytes, rows: Rows, i: int) -> None:
        """All attributes of a directory that is open."""
        owner = self._owner(rows, i)
        if owner.foreign:
            self._note_owner(path)
        self._give(path, fd, owner)
        self._set_xattrs(path, fd, rows.xattrs[i], exact=True)
        os.chmod(fd, rows.mode[i])
        self._set_time(path, fd, rows.time[i])

    def set_named(self, parent: int, name: bytes, path: bytes, rows: Rows, i: int) -> None:
        """All attributes of an entry of any kind, by its name in an open directory; never through a symlink."""
        owner = self._owner(rows, i)
        if owner.foreign:
            self._note_owner(path)
        foreign = not self._give(path, name, owner, parent) or owner.foreign
        self._set_xattrs(path, b"/proc/self/fd/%d/%s" % (parent, name), rows.xattrs[i], exact=True)
        if rows.kind[i] != Kind.SYMLINK:
            mode = rows.mode[i]
            change_mode(parent, name, self._safe_mode(path, mode) if foreign and mode & _SET_ID else mode)
        self._set_time(path, name, rows.time[i], parent)

    def _owner(self, rows: Rows, i: int) -> _Owner:
        key = (rows.uid[i], rows.gid[i], rows.owner[i], rows.group[i])
        found = self._owners.get(key)
        if found is None:
            found = self._owners[key] = self._resolve(*key)
        return found

    def _resolve(self, uid: int, gid: int, user: str | None, group: str | None) -> _Owner:
        if self._by_name:
            uid, gid = _user(user, uid), _group(group, gid)
        if self._root:
            return _Owner(uid, gid, False, (uid, gid) != (self._uid, self._gid))
        own_group = gid == self._gid or gid in self._groups
        return _Owner(-1, gid if own_group else -1, uid != self._uid or not own_group, own_group and gid != self._gid)

    def _note_owner(self, path: bytes) -> None:
        if not self._keep:
            message = "belongs to the user who restores: only root can give files away"
            self._notes.add(Code.OWNER, path, message, once=True)

    def _safe_mode(self, path: bytes, mode: int) -> int:
        """What runs as its owner must not run as another one."""
        self._notes.add(Code.PRIVILEGE, path, "set-user-id and set-group-id are dropped: the owner is another one")
        return mode & ~_SET_ID

    def _give(self, path: bytes, target: int | bytes, owner: _Owner, parent: int | None = None) -> bool:
        """Change the owner; False (and noted) when the system refuses."""
        if owner.uid < 0 and owner.gid < 0:
            return True
        try:
            if isinstance(target, int):
                os.chown(target, owner.uid, owner.gid)
            else:
                os.chown(target, owner.uid, owner.gid, dir_fd=parent, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            self._notes.add(Code.OWNER, path, f"owner {owner.uid}:{owner.gid} refused: {reason(error)}")
            return False
        return True

    def _set_xattrs(self, path: bytes, target: int | bytes, stored: bytes | None, *, exact: bool) -> None:
        """Set extended attributes; with `exact` others that are there go. Refusals are noted."""
        try:
            wanted = decode_xattrs(stored)
        except DamagedObject as error:
            self._notes.add(Code.DAMAGED, path, error.message)
            return
        follow = isinstance(target, int)
        present = _names(target) if exact else []
        for name in [name for name in present if name not in wanted and not _of_the_system(name)]:
            with self._noting(path, name):
                os.removexattr(target, name, follow_symlinks=follow)
        for name, value in wanted.items():
            with self._noting(path, name):
                os.setxattr(target, name, value, follow_symlinks=follow)

    def _set_time(self, path: bytes, target: int | bytes, time: int, parent: int | None = None) -> None:
        if isinstance(target, int):
            os.utime(target, ns=(time, time))
        else:
            os.utime(target, ns=(time, time), dir_fd=parent, follow_symlinks=False)
        if not 0 <= time < _UNUSUAL:
            by_fd = isinstance(target, int)
            found = os.stat(target) if by_fd else os.stat(target, dir_fd=parent, follow_symlinks=False)
            if found.st_mtime_ns != time:
                self._notes.add(Code.TIME, path, f"the file system cannot hold its time, {time // 10**9} s")

    @contextmanager
    def _noting(self, path: bytes, name: bytes) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _REFUSED and error.errno not in (errno.ENODATA, errno.ENOSPC):
                raise
            self._notes.add(Code.ATTRIBUTE, path, f"attribute {display_path(name)}: {reason(error)}")


def change_mode(parent: int, name: bytes, mode: int) -> None:
    """Set the mode of an entry in an open directory, following no symlink."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.chmod(b"/proc/self/fd/%d" % fd, mode)  # the descriptor's own inode: a symlink here is refused
    finally:
        os.close(fd)


def read_xattrs(path: bytes) -> dict[bytes, bytes]:
    """The attributes at a path, its last part not followed; empty where the file system has none or refuses."""
    found: dict[bytes, bytes] = {}
    for name in _names(path):
        try:
            found[name] = os.getxattr(path, name, follow_symlinks=False)
        except OSError:
            continue
    return found


def _of_the_system(name: bytes) -> bool:
    """Labels that security modules give every file by themselves: not left over from anybody."""
    return name.startswith(b"security.") and name != b"security.capability"


def _names(target: int | bytes) -> list[bytes]:
    try:
        return [os.fsencode(name) for name in os.listxattr(target, follow_symlinks=isinstance(target, int))]
    except OSError as error:
        if error.errno in _REFUSED:
            return []
        raise


@lru_cache(maxsize=4096)
def _user(name: str | None, otherwise: int) -> int:
    try:
        return pwd.getpwnam(name).pw_uid if name else otherwise
    except KeyError:
        return otherwise


@lru_cache(maxsize=4096)
def _group(name: str | None, otherwise: int) -> int:
    try:
        return grp.getgrnam(name).gr_gid if name else otherwise
    except KeyError:
        return otherwise
