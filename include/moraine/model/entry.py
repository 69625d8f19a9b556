"""Rows of inventories and manifests: Arrow schemas, kinds and states, and the order they are kept in.

A row names its entry by `dir` (the parent directory, relative to the source's root, bytes, no leading or trailing
slash, empty at the top) and `name` (bytes; empty only in the row of the root itself). Rows are sorted by
(directory, name), directories compared component by component: with '/' mapped to NUL, plain byte order does that.
So all entries of one directory stand together, a subtree is one contiguous range, and a directory's own row comes
before its content.
"""

from __future__ import annotations

from enum import IntEnum

import pyarrow as pa

import moraine.model.arrow  # noqa: F401  (first: it keeps pandas out)


class Kind(IntEnum):
    """What an entry is."""

    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3
    FIFO = 4
    CHARACTER_DEVICE = 5
    BLOCK_DEVICE = 6
    SOCKET = 7


class State(IntEnum):
    """How well the entry was captured."""

    OK = 0
    RACY = 1  # changed while or just before it was read: stored, but never trusted as unchanged
    VANISHED = 2  # gone between listing and reading
    DENIED = 3  # could not be read
    SKIPPED = 4  # left out on purpose, said so


class Op(IntEnum):
    """What a change set says about an entry, against the parent snapshot."""

    ADDED = 1
    MODIFIED = 2
    METADATA = 3
    DELETED = 4
    RENAMED = 5
    REHASH = 6  # nothing changed by its stat; content is re-read as a sample


NAME = pa.dictionary(pa.int32(), pa.binary())
TEXT = pa.dictionary(pa.int32(), pa.string())

INVENTORY = pa.schema(
    [
        pa.field("dir", NAME, nullable=False),
        pa.field("name", pa.binary(), nullable=False),
        pa.field("kind", pa.uint8(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),  # bytes; 0 unless a file
        pa.field("mode", pa.uint32(), nullable=False),  # permission bits, 0o7777
        pa.field("uid", pa.uint32(), nullable=False),
        pa.field("gid", pa.uint32(), nullable=False),
        pa.field("mtime", pa.int64(), nullable=False),  # seconds
        pa.field("mtime_ns", pa.int32(), nullable=False),  # 0 … 999 999 999
        pa.field("ctime", pa.int64(), nullable=False),
        pa.field("ctime_ns", pa.int32(), nullable=False),
        pa.field("inode", pa.uint64(), nullable=False),
        pa.field("device", pa.uint64(), nullable=False),
        pa.field("nlink", pa.uint32(), nullable=False),
        pa.field("rdev", pa.uint64(), nullable=False),  # devices only
        pa.field("state", pa.uint8(), nullable=False),
    ]
)

CONTENT = pa.schema(
    [
        pa.field("owner", TEXT),  # names of uid and gid at capture
        pa.field("group", TEXT),
        pa.field("target", pa.binary()),  # symlinks
        pa.field("xattrs", pa.binary()),  # model.xattrs encoding; null when none
        pa.field("extents", pa.binary()),  # sparse files: little-endian int64 pairs (offset, length) of the data
        pa.field("digest", pa.binary(32)),  # files: see docs/FORMAT.md
        pa.field("chunks", pa.list_(pa.binary(32))),  # null when the digest is the id of the only chunk, or no bytes
        pa.field("session", TEXT),  # the session that wrote this row
        pa.field("table_rows", pa.int64()),  # files of tables: rows, as the footer said when the file was read
        pa.field("table_shape", TEXT),  # of the same: what engine.footers told, as canonical JSON
    ]
)

MANIFEST = pa.schema(list(INVENTORY) + list(CONTENT))

# A source that keeps several versions of an entry names in this column of its inventory the one to read.
VERSION = pa.field("version", pa.binary())

CHANGES = pa.schema(
    [
        *MANIFEST,
        pa.field("op", pa.uint8(), nullable=False),
        pa.field("reason", TEXT, nullable=False),  # why: one of a few short phrases
        pa.field("read", pa.bool_(), nullable=False),  # content has to be read
        pa.field("shard", pa.int32(), nullable=False),  # copy shard that has to look at the entry; -1: none
        VERSION,
    ]
)

RESULTS = pa.schema([*MANIFEST])  # what a copy shard found: complete manifest rows


def row_key(directory: bytes, name: bytes) -> bytes:
    """The sort key of a row as one byte string: plain byte order of keys is manifest order."""
    return directory.replace(b"/", b"\0") + b"\0\0" + name


def join_path(directory: bytes, name: bytes) -> bytes:
    """The path of a row relative to the root; empty for the root."""
    return directory + b"/" + name if directory else name


def split_path(path: bytes) -> tuple[bytes, bytes]:
    """The (dir, name) of a relative path."""
    directory, _, name = path.rpartition(b"/")
    return directory, name


def display_path(path: bytes) -> str:
    """A path as text that is safe in logs, tables and terminals: bytes and control characters are escaped."""
    text = path.decode("utf-8", "backslashreplace")
    return (
        text
        if text.isprintable()
        else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    )
