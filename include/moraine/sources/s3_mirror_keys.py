"""Paths of a mirrored tree as keys of a bucket, and back.

A tree of files gives keys that are its paths, letter by letter, as every tool expects it. A tree that came from a
bucket (`s3_names`) gets the keys it came from.
"""

from __future__ import annotations

import errno
from typing import Any

import pyarrow as pa

from moraine.model import compute as pc
from moraine.model.schemas import INVENTORY
from moraine.sources.s3_names import key_of

_LONGEST = 1024  # bytes of a key


class Keys:
    """Keys of one mirror; `from_bucket`: its source is one."""

    def __init__(self, prefix: str, *, from_bucket: bool) -> None:
        self._prefix = prefix
        self._from_bucket = from_bucket
        self._odd: dict[bytes, str] = {}  # keys that no path of a file system gives: somebody else made them

    def key(self, path: bytes) -> str:
        """The key of a path. Raises OSError when it has none."""
        raw = key_of(path) if self._from_bucket else path
        try:
            text = self._prefix + (self._odd.get(path) or raw.decode())
        except UnicodeDecodeError as error:
            raise OSError(errno.EILSEQ, "its name is not UTF-8, and keys are") from error
        if len(text.encode()) > _LONGEST:
            raise OSError(errno.ENAMETOOLONG, f"a key has at most {_LONGEST} bytes")
        return text

    def paths(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """A listing as `s3_names` tells it, as paths of the tree.

        There a name that begins with `%` has one more; taking it away changes no order.
        """
        if self._from_bucket:
            return batch
        columns: dict[str, Any] = {name: batch.column(name) for name in INVENTORY.names}
        directories = columns["dir"].dictionary
        marked = bool(pc.any(pc.starts_with(columns["name"], b"%")).as_py())
        if not marked and not any(path.startswith(b"%") or b"/%" in path for path in directories.to_pylist()):
            return batch
        known = [self._path(path) for path in directories.to_pylist()]
        columns["dir"] = pa.DictionaryArray.from_arrays(columns["dir"].indices, pa.array(known, pa.binary()))
        names = []
        listed = [directories[number].as_py() for number in columns["dir"].indices.to_pylist()]
        for directory, name in zip(listed, columns["name"].to_pylist(), strict=True):
            names.append(self._name(name))
            whole = directory + b"/" + name if directory else name
            if _is_odd(whole):
                self._odd[self._path(whole)] = key_of(whole).decode("utf-8", "surrogateescape")
        columns["name"] = pa.array(names, pa.binary())
        return pa.record_batch([columns[name] for name in INVENTORY.names], schema=INVENTORY)

    def _path(self, path: bytes) -> bytes:
        return b"/".join(self._name(name) for name in path.split(b"/"))

    def _name(self, name: bytes) -> bytes:
        return name[1:] if name.startswith(b"%%") else name


def _is_odd(path: bytes) -> bool:
    return any(name.startswith(b"%") and not name.startswith(b"%%") for name in path.split(b"/"))
