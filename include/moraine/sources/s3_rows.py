"""Objects as INVENTORY rows and the version of each. Knows no bucket and no order.

What an object does not have is made up, the same every night: owner 0, mode 644 (directories 755), directories of the
time 0. The inode number is taken from the ETag, and from the version where there is one, so that a comparison by size,
time and inode sees every new content.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from blake3 import blake3

from moraine.model.entry import Kind, State
from moraine.model.schemas import INVENTORY, VERSION
from moraine.sources.base import Stamp
from moraine.sources.s3_client import Listed

_FILE_MODE, _DIRECTORY_MODE = 0o644, 0o755
_BILLION = 1_000_000_000

LISTED = INVENTORY.append(VERSION)


def inode_of(etag: str, version: str | None) -> int:
    """A number that another content does not have. The version `null` is overwritten in place: so the ETag too."""
    token = etag if version is None else f"{version} {etag}"
    return int.from_bytes(blake3(token.encode()).digest(length=8), "little")


def stamp_of(size: int, modified: int, etag: str, version: str | None) -> Stamp:
    """What a row says of an object, as the stamp of an open file."""
    return Stamp(size, modified * _BILLION, modified * _BILLION, inode_of(etag, version))


class ObjectRows:
    """Rows on their way to a batch: objects, and directories where there is none."""

    def __init__(self) -> None:
        """Begin with no rows."""
        self._clear()

    def _clear(self) -> None:
        self._directories: list[bytes] = []
        self._counts: list[int] = []
        self._names: list[bytes] = []
        self._objects: list[Listed | None] = []

    def __len__(self) -> int:
        return len(self._names)

    def add(self, directory: bytes, entries: Iterable[tuple[bytes, Listed | None]]) -> None:
        """Add entries of one directory; None stands for a directory."""
        before = len(self._names)
        for name, item in entries:
            self._names.append(name)
            self._objects.append(item)
        if len(self._names) > before:
            self._directories.append(directory)
            self._counts.append(len(self._names) - before)

    def take(self) -> pa.RecordBatch:
        """All rows added since the last time."""
        found = self._objects
        indices = np.repeat(np.arange(len(self._counts), dtype=np.int32), self._counts)
        times = [item.modified if item else 0 for item in found]
        zeros = np.zeros(len(found), np.int64)
        columns: dict[str, Any] = {field.name: zeros for field in INVENTORY}
        columns |= {
            "dir": pa.DictionaryArray.from_arrays(pa.array(indices), pa.array(self._directories, pa.binary())),
            "name": self._names,
            "kind": [Kind.FILE if item else Kind.DIRECTORY for item in found],
            "size": [item.size if item else 0 for item in found],
            "mode": [_FILE_MODE if item else _DIRECTORY_MODE for item in found],
            "mtime": times,
            "ctime": times,
            "inode": [inode_of(item.etag, item.version) if item else 0 for item in found],
            "nlink": zeros + 1,
            "state": [State.DENIED if item and item.archived else State.OK for item in found],
            "version": [item.version.encode() if item and item.version else None for item in found],
        }
        batch = pa.record_batch([_array(columns[field.name], field.type) for field in LISTED], schema=LISTED)
        self._clear()
        return batch


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(values, np.ndarray):
        return pa.array(values).cast(kind)
    return values if isinstance(values, pa.Array) else pa.array(values, kind)
