"""A store in memory: for tests, and for working files that need not outlive the process."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from moraine.errors import ObjectExists, ObjectNotFound
from moraine.stores.base import Buffer, ObjectInfo
from moraine.stores.names import check_key, check_prefix


class MemoryStore:
    """Objects in a dictionary; `modified` is the time of this machine, which is the store's own clock here."""

    def __init__(self, name: str = "") -> None:
        self.url = f"memory://{name}"
        self._lock = threading.Lock()
        self._objects: dict[str, tuple[bytes, datetime]] = {}

    def put(self, key: str, data: Buffer) -> None:
        """Create an object. Raises ObjectExists."""
        check_key(key)
        content = bytes(data)
        with self._lock:
            if key in self._objects:
                raise ObjectExists(f"{self.url}: {key} exists already", object=key)
            self._objects[key] = (content, datetime.now(UTC))

    def get(self, key: str) -> bytes:
        """The whole object. Raises ObjectNotFound."""
        return self._find(key)[0]

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """A part of it. Raises ObjectNotFound."""
        return self._find(key)[0][start : start + length]

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

    def _infos(self, keys: Iterable[str]) -> Iterator[ObjectInfo]:
        for key in keys:
            found = self._objects.get(key)
            if found is not None:  # deleted while the listing went on
                yield ObjectInfo(key, len(found[0]), found[1])

    def _find(self, key: str) -> tuple[bytes, datetime]:
        check_key(key)
        with self._lock:
            found = self._objects.get(key)
        if found is None:
            raise ObjectNotFound(f"{self.url}: {key} is not there", object=key)
        return found
