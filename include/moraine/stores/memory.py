"""A store in memory: for tests, and for working files that need not outlive the process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import IO

from moraine.errors import ObjectExists, ObjectNotFound
from moraine.stores.base import Buffer, ObjectInfo
from moraine.stores.local_files import failure, write_all
from moraine.stores.names import check_key, check_prefix


class MemoryStore:
    """Objects in a dictionary; `modified` is the time of this machine, which is the store's own clock here.

    With `most`, what comes when so many bytes are held goes to a file in the directory for temporary ones. That file
    has no name: it is gone with the process, however that ends. Room of deleted objects is not used again.
    """

    def __init__(self, name: str = "", *, most: int | None = None) -> None:
        self.url = f"memory://{name}"
        self._lock = threading.Lock()
        self._objects: dict[str, tuple[bytes | _Place, datetime]] = {}
        self._left = most  # bytes that may still be held
        self._file: IO[bytes] | None = None
        self._earlier: IO[bytes] | None = None  # kept open: what was put before a fork is read from it
        self._before: set[str] = set()  # objects that the process had which this one was forked from

    def put(self, key: str, data: Buffer) -> None:
        """Create an object. Raises ObjectExists."""
        check_key(key)
        content = bytes(data)
        with self._lock:
            if key in self._objects:
                raise ObjectExists(f"{self.url}: {key} exists already", object=key)
            self._objects[key] = (self._held(key, content), datetime.now(UTC))

    def get(self, key: str) -> bytes:
        """The whole object. Raises ObjectNotFound."""
        content = self._find(key)[0]
        return content if isinstance(content, bytes) else content.read(0, len(content))

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """A part of it. Raises ObjectNotFound."""
        content = self._find(key)[0]
        return content[start : start + length] if isinstance(content, bytes) else content.read(start, length)

    def head(self, key: str) -> ObjectInfo:
        """Size and time. Raises ObjectNotFound."""
        content, modified = self._find(key)
        return ObjectInfo(key, len(content), modified)

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[ObjectInfo]:
        """Objects under `prefix` in order of keys."""
        check_prefix(prefix)
        if after is not None:
            check_key(after)
        with self._lock:
            keys = sorted(k for k in self._objects if k.startswith(prefix) and (after is None or k > after))
        return self._infos(keys)

    def delete(self, key: str) -> None:
        """Remove an object."""
        check_key(key)
        with self._lock:
            self._objects.pop(key, None)

    def apart(self) -> None:
        """In a forked process: have a file of its own from now on, as both would write to the same place of one."""
        self._file, self._earlier = None, self._file
        self._before = set(self._objects)

    def news(self) -> Iterator[tuple[str, bytes]]:
        """The objects that this process alone has."""
        for key in self._objects:
            if key not in self._before:
                yield key, self.get(key)

    def _infos(self, keys: Iterable[str]) -> Iterator[ObjectInfo]:
        for key in keys:
            found = self._objects.get(key)
            if found is not None:  # deleted while the listing went on
                yield ObjectInfo(key, len(found[0]), found[1])

    def _held(self, key: str, content: bytes) -> bytes | _Place:
        if self._left is None or len(content) <= self._left:
            self._left = None if self._left is None else self._left - len(content)
            return content
        import tempfile  # small backups get along without

        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="moraine-work-", buffering=0)  # noqa: SIM115  (lives as long as this object)
            start = os.lseek(self._file.fileno(), 0, os.SEEK_END)
            write_all(self._file.fileno(), content)
        except OSError as error:
            raise failure(error, verb="write", key=key, root=tempfile.gettempdir()) from error
        return _Place(self._file.fileno(), start, len(content))

    def _find(self, key: str) -> tuple[bytes | _Place, datetime]:
        check_key(key)
        with self._lock:
            found = self._objects.get(key)
        if found is None:
            raise ObjectNotFound(f"{self.url}: {key} is not there", object=key)
        return found


class _Place:
    """Where an object lies in the file."""

    __slots__ = ("_file", "_size", "_start")

    def __init__(self, file: int, start: int, size: int) -> None:
        self._file, self._start, self._size = file, start, size

    def __len__(self) -> int:
        return self._size

    def read(self, start: int, length: int) -> bytes:
        """A part of it, shorter only at its end."""
        return os.pread(self._file, max(0, min(length, self._size - start)), self._start + start)
