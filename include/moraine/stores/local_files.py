"""File system calls of the local store, and what their errors mean."""

from __future__ import annotations

import errno
import os

from moraine.errors import (
    AccessDenied,
    MoraineError,
    ObjectNotFound,
    ReadOnlyStore,
    StoreError,
    StoreFull,
    StoreUnavailable,
    StoreUnfit,
)
from moraine.stores.base import Buffer
from moraine.stores.names import is_component

LINKLESS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}  # link() where there are no hard links
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR}
_DENIED = {errno.EACCES, errno.EPERM}
_PASSING = {
    errno.EAGAIN, errno.EBUSY, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
    errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ECONNRESET,
}  # fmt: skip
_RENAME_NOREPLACE = 1
_AT_FDCWD = -100


def write_all(handle: int, data: Buffer) -> None:
    """Write a buffer without copying it; the kernel takes at most 2 GiB at once."""
    with memoryview(data) as view, view.cast("B") as rest:
        done = 0
        while done < len(rest):
            done += os.write(handle, rest[done:])


def sync_directory(directory: str) -> None:
    """Make the names in a directory durable."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that has nothing to sync here says EINVAL
            raise
    finally:
        os.close(handle)


def rename_without_replacing(temp: str, target: str) -> bool:
    """What vfat, exFAT and SMB offer instead of hard links; False when `target` is taken. Linux only."""
    import ctypes  # rarely needed

    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None or rename(_AT_FDCWD, os.fsencode(temp), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) == 0:
        code = errno.ENOSYS if rename is None else 0
    else:
        code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS):
        raise StoreUnfit(
            f"the file system of {target} has neither hard links nor rename without replacing",
            hint="put the repository on a file system such as ext4, XFS, btrfs, ZFS or NFS",
        )
    if code not in (0, errno.EEXIST):
        raise OSError(code, os.strerror(code), target)
    return code == 0


def directory_entries(root: str, prefix: str) -> list[tuple[str, os.DirEntry[str]]]:
    """Names under a prefix in the order of the keys they begin: a directory counts as its name and a slash."""
    try:
        with os.scandir(f"{root}/{prefix}") as entries:
            found = [_named(entry) for entry in entries if is_component(entry.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted((pair for pair in found if pair[0]), key=lambda pair: pair[0])


def _named(entry: os.DirEntry[str]) -> tuple[str, os.DirEntry[str]]:
    if entry.is_dir():
        return entry.name + "/", entry
    return (entry.name if entry.is_file() else ""), entry


def failure(error: OSError, *, verb: str, key: str, root: str) -> MoraineError:
    """The error of this project for one of the operating system while it did `verb` to `key`."""
    code = error.errno or 0
    writes = verb in ("write", "delete")
    message = f"{root}: cannot {verb} {key or 'the root'}: {error.strerror or error}"
    if code in _GONE and not writes:
        return ObjectNotFound(f"{root}: {key} is not there", object=key)
    if code in _FULL:
        return StoreFull(message, hint="free space or raise the quota; nothing was half written", object=key)
    if code == errno.EROFS:
        return ReadOnlyStore(message, hint="mount the file system for writing", object=key)
    if code in _DENIED:
        if writes and os.access(root, os.R_OK | os.X_OK):
            return ReadOnlyStore(message, hint="this user may read the store, not write it", object=key)
        return AccessDenied(message, hint="run as the user who owns the store", object=key)
    if code in _PASSING:
        return StoreUnavailable(message, hint="try again", object=key)
    if code == errno.EIO:
        return StoreError(message, hint="the disk fails: look at the kernel's log", object=key)
    return StoreError(message, object=key)
