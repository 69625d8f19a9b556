"""Rows of inventories, manifests and change sets as Arrow schemas; `model.entry` has the words and the order."""

from __future__ import annotations

import pyarrow as pa

import moraine.model.arrow  # noqa: F401  (first: it keeps pandas out)

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
