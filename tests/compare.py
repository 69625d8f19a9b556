"""An independent comparison of two trees. Uses the operating system only, nothing of the package under test."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_BLOCK = 1 << 16
_ROOT_ONLY = (b"security.", b"trusted.")


@dataclass(frozen=True)
class _Node:
    """What a restore has to bring back of one entry."""

    kind: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    allocated: int
    rdev: int
    identity: tuple[int, int] | None  # of a file with several links
    target: bytes | None
    xattrs: dict[bytes, bytes]
    content: str | None


def compare_trees(a: str | Path, b: str | Path, *, owners: bool = True) -> list[str]:
    """What differs in `b` from `a`, one line for each difference; empty when they are equal.

    Compares names, kinds, modes, owners, times of modification (ns; also of directories and symlinks), sizes, content,
    groups of hard links, symlink targets, extended attributes (with them ACLs), device numbers, and that sparse files
    did not grow fat. `owners=False` leaves out what only root can restore: owners, security.* and trusted.*.
    """
    left, right = _read_tree(a), _read_tree(b)
    found = [f"{_show(path)}: only in {a}" for path in sorted(left.keys() - right.keys())]
    found += [f"{_show(path)}: only in {b}" for path in sorted(right.keys() - left.keys())]
    common = sorted(left.keys() & right.keys())
    for path in common:
        found += [f"{_show(path)}: {line}" for line in _differences(left[path], right[path], owners)]
    links_left, links_right = _link_groups(left), _link_groups(right)
    for path in common:
        if links_left.get(path) != links_right.get(path):
            names = [[_show(p) for p in sorted(g.get(path, ()))] for g in (links_left, links_right)]
            found.append(f"{_show(path)}: linked with {names[0]}, now with {names[1]}")
    return found


def rsync_differences(a: str | Path, b: str | Path, *, exclude: Sequence[str] = ()) -> list[str]:
    """What rsync would change in `b` to make it `a`: a second opinion, where it is installed.

    It cannot look at paths beyond PATH_MAX.
    """
    if not shutil.which("rsync"):
        return []
    command = ["rsync", "-aHAXn", "--checksum", "--delete", "--itemize-changes", "--modify-window=-1"]
    command += [f"--exclude={pattern}" for pattern in exclude] + [f"{a}/", f"{b}/"]
    done = subprocess.run(command, capture_output=True, check=False)
    lines = (done.stdout + done.stderr).decode("utf-8", "backslashreplace").splitlines()
    return lines or ([] if done.returncode == 0 else [f"rsync ended with {done.returncode}"])


def _differences(a: _Node, b: _Node, owners: bool) -> Iterator[str]:
    if a.kind != b.kind:
        yield f"kind {a.kind:o}, now {b.kind:o}"
        return
    names = ["mode", "mtime_ns", "size", "rdev", "target", "content"] + ["uid", "gid"] * owners
    for name in names:
        before, after = getattr(a, name), getattr(b, name)
        if before != after:
            yield f"{name} {before:o}, now {after:o}" if name == "mode" else f"{name} {before!r}, now {after!r}"
    for attribute in sorted(a.xattrs.keys() | b.xattrs.keys()):
        old, new = a.xattrs.get(attribute), b.xattrs.get(attribute)
        if old != new and (owners or not attribute.startswith(_ROOT_ONLY)):
            yield f"xattr {_show(attribute)} {old!r}, now {new!r}"
    if a.allocated < a.size and b.allocated > a.allocated * 1.1 + 8 * _BLOCK:
        yield f"was sparse with {a.allocated} bytes allocated, now {b.allocated}"


def _link_groups(tree: dict[bytes, _Node]) -> dict[bytes, frozenset[bytes]]:
    groups: dict[tuple[int, int], set[bytes]] = defaultdict(set)
    for path, node in tree.items():
        if node.identity:
            groups[node.identity].add(path)
    frozen = [frozenset(group) for group in groups.values() if len(group) > 1]
    return {path: group for group in frozen for path in group}


def _read_tree(root: str | Path) -> dict[bytes, _Node]:
    tree: dict[bytes, _Node] = {}
    waiting = [b""]
    while waiting:
        directory = waiting.pop()
        with _open_directory(root, directory) as fd:
            if not directory:
                tree[b""] = _read_node(fd, b".")
            for name in map(os.fsencode, os.listdir(fd)):
                path = directory + b"/" + name if directory else name
                tree[path] = node = _read_node(fd, name)
                if node.kind == stat.S_IFDIR:
                    waiting.append(path)
    return tree


@contextmanager
def _open_directory(root: str | Path, directory: bytes) -> Iterator[int]:
    """Component by component: the path may be longer than the system takes."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in directory.split(b"/") if directory else []:
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            os.close(fd)
            fd = below
        yield fd
    finally:
        os.close(fd)


def _read_node(parent: int, name: bytes) -> _Node:
    found = os.lstat(name, dir_fd=parent)
    kind = stat.S_IFMT(found.st_mode)
    file, device = kind == stat.S_IFREG, kind in (stat.S_IFCHR, stat.S_IFBLK)
    return _Node(
        kind=kind,
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        mtime_ns=found.st_mtime_ns,
        size=found.st_size if file else 0,
        allocated=found.st_blocks * 512,
        rdev=found.st_rdev if device else 0,
        identity=(found.st_dev, found.st_ino) if found.st_nlink > 1 and kind != stat.S_IFDIR else None,
        target=os.readlink(name, dir_fd=parent) if kind == stat.S_IFLNK else None,
        xattrs=_read_xattrs(b"/proc/self/fd/%d/%s" % (parent, name)),
        content=_read_content(parent, name) if file else None,
    )


def _read_xattrs(path: bytes) -> dict[bytes, bytes]:
    try:
        names = [os.fsencode(name) for name in os.listxattr(path, follow_symlinks=False)]
        return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.EACCES, errno.EPERM):
            return {}
        raise


def _read_content(parent: int, name: bytes) -> str:
    """A digest of offsets and blocks that are not all zero: holes and written zeros are the same content."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=parent)
    except PermissionError:
        return "unreadable"
    digest = hashlib.blake2b(digest_size=16)
    zeros = bytes(_BLOCK)
    at = 0
    try:
        while (at := _next_data(fd, at)) >= 0:
            block = os.pread(fd, _BLOCK, at)
            if block != zeros[: len(block)]:
                digest.update(at.to_bytes(8, "little") + block)
            at += _BLOCK
    finally:
        os.close(fd)
    return digest.hexdigest()


def _next_data(fd: int, at: int) -> int:
    """The start of the next block that holds data; -1 at the end."""
    try:
        return os.lseek(fd, at, os.SEEK_DATA) // _BLOCK * _BLOCK
    except OSError as error:
        if error.errno == errno.ENXIO:
            return -1
        raise


def _show(path: bytes) -> str:
    return repr(path)[2:-1] or "."
