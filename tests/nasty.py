"""A tree with every nasty thing a file system can hold, and a second night of changes to it.

Uses the operating system only. What the file system at hand, or an ordinary user, cannot make is left out.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MIB = 1 << 20
NAMES = [
    b"new\nline", b"tab\tname", b"100%25", b"%s%n", b"back\\slash", b"-rf", b"--delete", b"trailing space ",
    b" leading",
    b"trailing dot.", b"...", b"..hidden", b"\x01control\x1b[31m", b"quote'\"", b"*", b"?", b"[x]", b"#", b"!", b"~",
    b"$(id)", b"a;b", b"a|b", b"c:drive", b"con", b"\xff\xfe", b"latin1-\xe9", b"surrogate-\xed\xa0\x80",
    b"cut-\xe2\x82",
    "caf\u00e9".encode(), "cafe\u0301".encode(), "\U00010000".encode(), "\uffee".encode(), "\u202egnp.exe".encode(),
    "\u65e5\u672c\u8a9e".encode(), b"Case", b"case", b"CASE", b"x" * 255, "\u00e9".encode() * 127,
]  # fmt: skip
ORDER = [b"a", b"a!", b"a b", b"a-b", b"a.b", b"a\x01", b"a\xff", b"A", b"aa", b"ab"]  # where "/" sorts, matters
TIMES = {  # ns since 1970
    "zero": 0, "one-ns": 1, "ns-precision": 1_700_000_000_123_456_789, "before-1970": -1,
    "1901": -2_145_000_000_500_000_000,
    "2038": 2_147_483_648_000_000_001, "2261": 9_200_000_000_123_456_789, "2300": 10_413_792_000_987_654_321,
    "2446": 15_032_385_535_000_000_000,
}  # fmt: skip


def make_nasty_tree(root: Path, *, as_root: bool) -> None:
    """Fill the directory `root` (made when it is not there). `as_root`: with devices, owners, capabilities."""
    root.mkdir(exist_ok=True)
    for make in (_names, _deep, _contents, _sparse, _links, _special, _modes, _attributes, _times):
        make(root / make.__name__.strip("_"))
    if as_root:
        _root_only(root / "root_only")
    _date_directories(root)


def write(path: Path | bytes, content: bytes) -> None:
    """Write a file by a path of text or bytes."""
    with open(path, "wb") as file:
        file.write(content)


def fill(length: int, seed: int = 0) -> bytes:
    """Bytes that do not repeat soon."""
    return b"".join(struct.pack("<QQ", seed, n) for n in range(length // 16 + 1))[:length]


@contextmanager
def _if_it_can() -> Iterator[None]:
    """Leave out what the file system or the user cannot do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.EINVAL, errno.ENOSPC, errno.EOVERFLOW, errno.ERANGE):
            raise


def _names(top: Path) -> None:
    base = os.fsencode(top)
    os.mkdir(base)
    for name in NAMES:
        write(base + b"/" + name, b"content of " + name)
    for name in ORDER:
        os.mkdir(base + b"/dir-" + name)
        write(base + b"/dir-" + name + b"/child", name)
        os.mkdir(base + b"/dir-" + name + b"/below")
    os.mkdir(base + b"/dir-\xff\xfe")
    write(base + b"/dir-\xff\xfe/\xe9", b"both no UTF-8")


def _deep(top: Path) -> None:
    top.mkdir()
    _chain(top, [b"d"] * 300)
    _chain(top, [b"%02d" % n + b"long" * 60 for n in range(20)])  # 20 names of 242 bytes: past PATH_MAX


def _chain(top: Path, names: list[bytes]) -> None:
    """Directories inside one another, with files in the last and in every fiftieth."""
    fd = os.open(top, os.O_RDONLY)
    for depth, name in enumerate(names, start=1):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
        if depth % 50 == 0 or depth == len(names):
            with open(os.open(b"bottom", os.O_CREAT | os.O_WRONLY, dir_fd=fd), "wb") as file:
                file.write(b"depth %d" % depth)
            os.symlink(b"bottom", b"link", dir_fd=fd)
            with _if_it_can():
                os.setxattr(f"/proc/self/fd/{fd}/bottom", "user.depth", b"%d" % depth)
    os.close(fd)


def _contents(top: Path) -> None:
    top.mkdir()
    for n, size in enumerate((0, 1, 511, 4096, MIB - 1, MIB, MIB + 1, 9 * MIB)):
        write(top / f"size-{size}", fill(size, n))
    for n in range(3):
        write(top / f"identical-{n}", fill(70_000, 7))
        write(top / f"identical-big-{n}", fill(3 * MIB, 8))
    write(top / "zeros-written", bytes(2 * MIB))
    write(top / "text", b"the same line again and again\n" * 20_000)
    write(top / "random", os.urandom(300_000))
    (top / "empty-directory").mkdir()
    (top / "many").mkdir()
    for n in range(300):
        write(top / "many" / f"{n:03}", b"%d" % n)


def _sparse(top: Path) -> None:
    top.mkdir()
    layouts = {
        "both-ends": (1 << 30, [512 * MIB]), "hole-at-end": (8 * MIB, [0]), "hole-at-start": (8 * MIB, [7 * MIB]),
        "no-data": (64 * MIB, []), "many-holes": (16 * MIB, list(range(0, 16 * MIB, MIB))),
        "odd-end": (5 * MIB + 17, [MIB]),
    }  # fmt: skip
    for name, (size, places) in layouts.items():
        with open(top / name, "wb") as file:
            file.truncate(size)
            for place in places:
                os.pwrite(file.fileno(), fill(65_536, place), place)


def _links(top: Path) -> None:
    (top / "sub" / "deeper").mkdir(parents=True)
    write(top / "original", b"one content, several names")
    os.link(top / "original", top / "sub" / "second")
    os.link(top / "original", top / "sub" / "deeper" / "third")
    write(top / "sub" / "thousand-000", fill(100_000, 5))
    for n in range(1, 1000):
        os.link(top / "sub" / "thousand-000", top / "sub" / f"thousand-{n:03}")
    targets = {
        b"dangling": b"nowhere/at all", b"absolute": b"/etc/hostname", b"to-directory": b"sub", b"up": b"../..",
        b"itself": b"itself",
        b"long": b"t" * 4000, b"not-utf8": b"\xff\xfe/\xe9", b"newline": b"a\nb", b"to-file": b"original", b"dot": b".",
    }  # fmt: skip
    for name, target in targets.items():
        os.symlink(target, os.fsencode(top) + b"/" + name)
    os.link(top / "dangling", top / "sub" / "dangling-again", follow_symlinks=False)


def _special(top: Path) -> None:
    top.mkdir()
    os.mkfifo(top / "fifo", 0o640)
    os.link(top / "fifo", top / "fifo-again")
    fd = os.open(top, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{fd}/socket")  # the path of a socket may have 107 bytes only
    finally:
        os.close(fd)


def _modes(top: Path) -> None:
    top.mkdir()
    for mode in (0o000, 0o001, 0o200, 0o400, 0o444, 0o777, 0o1644, 0o2755, 0o4755, 0o6711):
        write(top / f"file-{mode:04o}", b"mode")
        (top / f"file-{mode:04o}").chmod(mode)
    for mode in (0o500, 0o555, 0o700, 0o1777, 0o2775):
        directory = top / f"directory-{mode:04o}"
        (directory / "inside").mkdir(parents=True)
        write(directory / "child", b"in a directory")
        directory.chmod(mode)


def _attributes(top: Path) -> None:
    top.mkdir()
    values = {
        b"user.plain": b"value", b"user.empty": b"", b"user.binary": bytes(range(256)), b"user.100%25 =\"'": b"%00",
        b"user.\xff\xfe": b"\xff", b"user.new\nline": b"a\nb", "user.é".encode(): "ü".encode(),
    }  # fmt: skip
    write(top / "several", b"")
    write(top / "big", b"x")
    (top / "directory").mkdir()
    for path in (top / "several", top / "directory"):
        for attribute, value in values.items():
            with _if_it_can():
                os.setxattr(path, attribute, value)
    with _if_it_can():
        os.setxattr(top / "big", "user.big", fill(3072, 1))
    acl = access_list((1, 6, -1), (2, 4, 12345), (4, 5, -1), (8, 6, 54321), (16, 6, -1), (32, 0, -1))
    for path, name in ((top / "several", "access"), (top / "directory", "access"), (top / "directory", "default")):
        with _if_it_can():
            os.setxattr(path, f"system.posix_acl_{name}", acl)


def access_list(*entries: tuple[int, int, int]) -> bytes:
    """POSIX entries of (tag, permissions, id) as the kernel has them in an attribute."""
    return struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, mode, who & 0xFFFFFFFF) for tag, mode, who in entries
    )


def _times(top: Path) -> None:
    top.mkdir()
    for name, at in TIMES.items():
        write(top / name, name.encode())
        (top / f"directory-{name}").mkdir()
        os.symlink(name, top / f"link-{name}")
        for path in (name, f"link-{name}"):
            with _if_it_can():
                os.utime(top / path, ns=(at, at), follow_symlinks=False)


def _root_only(top: Path) -> None:
    top.mkdir()
    with _if_it_can():
        os.mknod(top / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        os.mknod(top / "loop", 0o660 | stat.S_IFBLK, os.makedev(7, 300))
        os.mknod(top / "high-numbers", 0o600 | stat.S_IFCHR, os.makedev(4095, 1_000_000))
    for uid, gid in ((12345, 54321), (65534, 65534), (0, 4_000_000_000), (4_000_000_001, 0)):
        name = f"owner-{uid}-{gid}"
        write(top / name, b"whose?")
        (top / f"directory-{name}").mkdir()
        os.symlink(name, top / f"link-{name}")
        for path in (name, f"directory-{name}", f"link-{name}"):
            with _if_it_can():
                os.chown(top / path, uid, gid, follow_symlinks=False)
        (top / name).chmod(0o6755)
    write(top / "capable", b"#!/bin/true")
    (top / "capable").chmod(0o755)
    with _if_it_can():
        os.setxattr(top / "capable", "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0))
    with _if_it_can():
        os.setxattr(top / "capable", "trusted.note", b"\x00\xff")
    with _if_it_can():
        os.setxattr(top / "link-owner-65534-65534", "trusted.on-a-link", b"yes", follow_symlinks=False)


def _date_directories(root: Path) -> None:
    """Give every directory a time of its own, the deepest first, as only a restore in that order can bring back."""
    for n, (path, _, _, fd) in enumerate(os.fwalk(root, topdown=False)):
        name = os.path.basename(path).removeprefix("directory-")
        at = TIMES.get(name, 1_500_000_000_000_000_000 + n * 1_000_000_007)
        with _if_it_can():
            os.utime(fd, ns=(at, at))


def nasty_edit(root: Path) -> None:
    """A second night: every kind of change, also those that hide."""
    contents, links, names = root / "contents", root / "links", root / "names"
    os.utime(contents / "size-1")
    _edit_behind_the_clock(contents / "size-4096")
    write(contents / "size-511", b"grown" * 1000)
    os.truncate(contents / "text", 1000)
    with open(contents / f"size-{9 * MIB}", "r+b") as file:  # an insert in the middle of a big file
        rest = file.read()[4 * MIB :]
        file.seek(4 * MIB)
        file.write(b"inserted" + rest)
    os.rename(contents / "random", contents / "random-renamed")
    os.rename(contents / "many", contents / "many-renamed")
    os.unlink(contents / "identical-0")
    (root / "modes" / "file-0444").chmod(0o640)
    with _if_it_can():
        os.setxattr(root / "attributes" / "big", "user.big", b"small now")
    with suppress(OSError):
        os.removexattr(root / "attributes" / "several", "user.plain")
    os.unlink(links / "sub" / "second")  # a link broken: the same content, alone now
    write(links / "sub" / "second", b"one content, several names")
    os.unlink(links / "to-file")
    os.symlink(b"sub/second", links / "to-file")
    with open(root / "sparse" / "both-ends", "r+b") as file:
        os.pwrite(file.fileno(), b"more data", 900 * MIB)
    os.unlink(contents / "size-0")  # file -> directory
    (contents / "size-0").mkdir()
    write(contents / "size-0" / "inside", b"was a file")
    shutil.rmtree(os.fsencode(names) + b"/dir-a")  # directory -> symlink
    os.symlink(b"dir-aa", os.fsencode(names) + b"/dir-a")
    os.unlink(contents / "identical-1")  # file -> fifo
    os.mkfifo(contents / "identical-1")
    os.unlink(root / "special" / "fifo")  # fifo -> file
    write(root / "special" / "fifo", b"was a fifo")
    write(os.fsencode(names) + b"/added-\xfe\n", b"new")
    os.unlink(os.fsencode(names) + b"/Case")
    os.utime(contents / "empty-directory", ns=(1, 1))


def _edit_behind_the_clock(path: Path) -> None:
    """Other content, the same size and time of modification: only ctime tells."""
    before = path.stat()
    write(path, fill(before.st_size, 99))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
