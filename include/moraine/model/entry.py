"""Entries of trees: kinds and states, paths, and the order rows are kept in. Loads nothing.

A row names its entry by `dir` (the parent directory, relative to the source's root, bytes, no leading or trailing
slash, empty at the top) and `name` (bytes; empty only in the row of the root itself). Rows are sorted by
(directory, name), directories compared component by component: with '/' mapped to NUL, plain byte order does that.
So all entries of one directory stand together, a subtree is one contiguous range, and a directory's own row comes
before its content.
"""

from __future__ import annotations

from enum import IntEnum


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
