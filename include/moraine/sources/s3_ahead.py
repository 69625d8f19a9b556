"""Fetches objects before they are asked for: a small object costs a round trip, whatever the network's speed.

In the order they were announced, a bounded number and amount at a time. Whoever asks gets what was fetched, or the
error that came instead of it.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from moraine.sources.s3_client import Found, S3Bucket

PART = 8 << 20
_REQUESTS = 16  # at a time
_BYTES = 64 << 20  # fetched and not yet taken


class _Next(NamedTuple):
    key: str
    size: int


class ReadAhead:
    """The beginnings of objects, those that were announced first. For one thread, with more behind it."""

    def __init__(self, bucket: S3Bucket) -> None:
        """Close it at the end; no thread runs before something is announced."""
        self._bucket = bucket
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: deque[_Next] = deque()
        self._fetched: dict[str, tuple[int, Future[Found]]] = {}
        self._bytes = 0
        self.versions: dict[str, str] = {}

    def expect(self, objects: list[tuple[str, int, str | None]]) -> None:
        """Announce (key, size, version) of what is asked for next; what was announced before is forgotten."""
        self._forget()
        self.versions = {key: version for key, _, version in objects if version}
        if len(objects) > 1:
            self._waiting.extend(_Next(key, min(size, PART)) for key, size, _ in objects)
            self._pool = self._pool or ThreadPoolExecutor(_REQUESTS, "read-ahead")

    def take(self, key: str) -> Found:
        """The first PART of an object, in the version that was announced. Errors as `S3Bucket.read`."""
        size, future = self._fetched.pop(key, (0, None))
        self._bytes -= size
        while future is None and self._waiting:  # not fetched yet: it may be next, or was never announced
            if self._waiting.popleft().key == key:
                break
        self._start()
        return future.result() if future else self._read(key)

    def close(self) -> None:
        """Forget what was not asked for, and end the threads."""
        self._forget()
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _start(self) -> None:
        while self._pool and self._waiting and len(self._fetched) < _REQUESTS:
            key, size = self._waiting[0]
            if self._bytes + size > _BYTES:
                return
            self._waiting.popleft()
            self._bytes += size
            self._fetched[key] = size, self._pool.submit(self._read, key)

    def _read(self, key: str) -> Found:
        return self._bucket.read(key, 0, PART, version=self.versions.get(key))

    def _forget(self) -> None:
        self._waiting.clear()
        for _, future in self._fetched.values():
            future.cancel()
        self._fetched.clear()
        self._bytes = 0
