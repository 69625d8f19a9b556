"""How rows become objects and objects are compared with rows: of a snapshot of a bucket, and of one of a directory.

Objects of a bucket get their keys, headers and metadata back as they were. Entries of a directory get their paths as
keys, and metadata that others read too: `mtime` in seconds with nine decimals, `mode` in octal with the bits of the
kind and a 0 before it, `uid` and `gid`, the way rclone and s3fs understand them; a symlink is, as s3fs has it, an
object of that kind whose content is the path that it points to.
"""

from __future__ import annotations

import json
import re
import stat
from typing import Any, NamedTuple, Protocol

from moraine.model.entry import Kind, join_path
from moraine.model.xattrs import decode_xattrs
from moraine.sources.s3_client import Found
from moraine.sources.s3_names import directory_of, key_of, path_of
from moraine.sources.s3_rows import inode_of
from moraine.sources.s3_writer import Refused
from moraine.sources.target import Rows

DIGEST = "moraine-digest"  # of the content, as the snapshot has it; keyed, so it tells others nothing
_HEADERS = frozenset({"cache-control", "website-redirect-location"})  # and content-…
_LONGEST_KEY = 1024
_BILLION = 10**9
_FILE_MODE = 0o644  # what a listing of a bucket makes of every object (`s3_rows`)
_KINDS = {Kind.FILE: stat.S_IFREG, Kind.DIRECTORY: stat.S_IFDIR, Kind.SYMLINK: stat.S_IFLNK}
_QUOTE = "\u201b"  # as rclone writes a byte that is no UTF-8: this and two hexadecimal digits
_QUOTED = re.compile("[\udc80-\udcff\u201b]")
_TIME = re.compile(r"(-?)(\d{1,18})(?:\.(\d{1,9})\d*)?")


class Row(NamedTuple):
    """An object as FOUND has it."""

    kind: int
    size: int = 0
    mode: int | None = 0
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    mtime_ns: int = 0
    rdev: int = 0
    target: bytes | None = None
    xattrs: bytes | None = None
    unfinished: bool = False
    content: bool | None = None
    attributes: bool | None = None


NOTHING = Row(0)
_OURS = b"user.s3."  # attributes that the source made; a directory's own may have any name and value


class Wanted(NamedTuple):
    """What a snapshot has in the place of an object."""

    kind: int
    inode: int
    xattrs: bytes | None
    digest: bytes | None


class Stored(NamedTuple):
    """What an object of a bucket was stored with."""

    headers: dict[str, str]
    metadata: dict[str, str]
    version: str | None


class Form(Protocol):
    """One way to do it. Keys are relative to the target's prefix."""

    owners: bool
    xattrs: bool
    markers: bool  # an object whose key is the prefix of a directory stands for the directory

    def key(self, directory: bytes, name: bytes) -> str:
        """The key of an entry. Raises Refused when there can be none."""

    def prefix(self, directory: bytes) -> str:
        """What the keys of entries in a directory begin with; not more than what is before the last slash."""

    def path(self, key: str) -> bytes:
        """The path that a key, or a prefix that ends with a slash, stands for."""

    def headers(self, rows: Rows, i: int, *, named: bool) -> dict[str, Any]:
        """Arguments of a write; `named`: the ETag will not tell which content this is."""

    def row(self, found: Found, wanted: Wanted) -> Row:
        """An object as a row, compared with the one that is wanted there."""


class ObjectForm:
    """Of a snapshot of a bucket."""

    owners = False
    xattrs = True
    markers = False  # `a/` may be an object beside the directory `a`

    def key(self, directory: bytes, name: bytes) -> str:
        """The key that the path was made from."""
        return key_of(join_path(directory, name)).decode()

    def prefix(self, directory: bytes) -> str:
        """The key of the directory; pieces of a long name belong to what is in it."""
        names = directory.split(b"/") if directory else []
        while names and names[-1].startswith(b"%+"):
            names.pop()
        return key_of(b"/".join(names)).decode() + "/" if names else ""

    def path(self, key: str) -> bytes:
        """The path as a listing makes it."""
        return directory_of(key.encode()) if key.endswith("/") else path_of(key.encode())

    def headers(self, rows: Rows, i: int, *, named: bool) -> dict[str, Any]:
        """What the object was stored with."""
        stored, digest = stored_with(rows.xattrs[i]), rows.digest[i]
        mark = {DIGEST: digest.hex()} if named and digest is not None else {}
        arguments = {name.title().replace("-", ""): value for name, value in stored.headers.items()}
        return arguments | {"Metadata": stored.metadata | mark}

    def row(self, found: Found, wanted: Wanted) -> Row:
        """As a listing makes it; what a restore has added to its metadata is not compared."""
        stored = stored_with(wanted.xattrs)
        metadata = {name: value for name, value in found.metadata.items() if name != DIGEST}
        marked = wanted.digest is not None and found.metadata.get(DIGEST) == wanted.digest.hex()
        return Row(
            kind=Kind.FILE,
            size=found.size,
            mode=_FILE_MODE,
            mtime=found.modified,
            content=marked or etag_tells(wanted.inode, wanted.xattrs, found.etag),
            attributes=(found.headers, metadata) == (stored.headers, stored.metadata),
        )


class TreeForm:
    """Of a snapshot of a directory."""

    xattrs = False
    markers = True

    def __init__(self, *, owners: bool) -> None:
        """Keep `uid` and `gid`, or not."""
        self.owners = owners

    def key(self, directory: bytes, name: bytes) -> str:
        """The path itself; bytes that are no UTF-8 are quoted."""
        text = join_path(directory, name).decode("utf-8", "surrogateescape")
        return _QUOTED.sub(_quoted, text) if not text.isascii() else text

    def prefix(self, directory: bytes) -> str:
        """The path and a slash."""
        return self.key(directory, b"") if directory else ""

    def path(self, key: str) -> bytes:
        """The key itself: for patterns and for people."""
        return key.removesuffix("/").encode()

    def headers(self, rows: Rows, i: int, *, named: bool) -> dict[str, Any]:
        """Attributes as metadata."""
        del named  # all of them name their content: there is room
        seconds, ns = divmod(abs(rows.time[i]), _BILLION)
        metadata = {
            "mtime": f"{'-' * (rows.time[i] < 0)}{seconds}.{ns:09}",
            "mode": f"0{_KINDS[Kind(rows.kind[i])] | rows.mode[i]:o}",
        }
        if self.owners:
            metadata |= {"uid": str(rows.uid[i]), "gid": str(rows.gid[i])}
        digest = rows.digest[i]
        if digest is not None:
            metadata[DIGEST] = digest.hex()
        typed = {"ContentType": "application/x-directory"} if rows.kind[i] == Kind.DIRECTORY else {}
        return typed | {"Metadata": metadata}

    def row(self, found: Found, wanted: Wanted) -> Row:
        """What metadata say, and of what others put there, what there is."""
        said = found.metadata
        mode = _number(said.get("mode"), 8)
        kind = {value: kind for kind, value in _KINDS.items()}.get(stat.S_IFMT(mode), Kind.FILE)
        seconds, ns = _time(said.get("mtime")) or (found.modified, 0)
        return Row(
            kind=kind,
            size=found.size if kind == Kind.FILE else 0,
            mode=stat.S_IMODE(mode),
            uid=_number(said.get("uid"), 10),
            gid=_number(said.get("gid"), 10),
            mtime=seconds,
            mtime_ns=ns,
            target=found.data if kind == Kind.SYMLINK else None,
            content=said[DIGEST] == wanted.digest.hex() if DIGEST in said and wanted.digest else None,
        )


def fitting(key: str) -> str:
    """A whole key, if S3 can have it. Raises Refused."""
    if len(key.encode()) > _LONGEST_KEY:
        raise Refused(f"its key would have more than {_LONGEST_KEY:,} bytes")
    return key


def stored_with(xattrs: bytes | None) -> Stored:
    """Headers and metadata out of the attributes that the source made of them."""
    ours = (item for item in decode_xattrs(xattrs).items() if item[0].startswith(_OURS))  # others may be no text
    kept = {name.removeprefix(_OURS).decode(errors="replace"): value for name, value in ours}
    headers = {name: value.decode() for name, value in kept.items() if name.startswith("content-") or name in _HEADERS}
    version = kept.get("version-id")
    return Stored(headers, json.loads(kept.get("metadata", b"{}")), version.decode() if version else None)


def etag_tells(inode: int, xattrs: bytes | None, etag: str) -> bool:
    """Whether an object of this ETag is known for the row's content, as the source's listing had it."""
    version = decode_xattrs(xattrs).get(_OURS + b"version-id")
    return inode == inode_of(etag, version.decode(errors="replace") if version else None)


def _quoted(found: re.Match[str]) -> str:
    letter = found[0]
    return _QUOTE + (_QUOTE if letter == _QUOTE else f"{ord(letter) - 0xDC00:02X}")


def _number(text: str | None, base: int) -> int:
    try:
        return int(text or "0", base) & 0xFFFFFFFF
    except ValueError:
        return 0


def _time(text: str | None) -> tuple[int, int] | None:
    found = _TIME.fullmatch(text or "")
    if not found:
        return None
    ns = int(found[2]) * _BILLION + int((found[3] or "").ljust(9, "0"))
    return divmod(-ns if found[1] else ns, _BILLION)
