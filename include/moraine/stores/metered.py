"""What is asked of a store, counted: requests, the errors among them, bytes. For metrics; changes nothing else."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

from moraine.errors import MoraineError, ObjectExists, ObjectNotFound
from moraine.stores.ahead import at_once
from moraine.stores.base import Buffer, ObjectInfo, Store

_PAGE = 1000  # keys in an answer to a listing


class Meter:
    """Counts of all stores that were given it; safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, ...]] = Counter()

    def count(self, what: str, store: str, *labels: str, by: int = 1) -> None:
        """Add to `requests` (store, operation), `errors` (store, operation, code) or `bytes` (store, operation)."""
        with self._lock:
            self._counts[what, store, *labels] += by

    def take(self) -> dict[tuple[str, ...], int]:
        """What was counted since the last call."""
        with self._lock:
            taken, self._counts = self._counts, Counter()
            return dict(taken)


class MeteredStore:
    """A store whose requests are counted."""

    def __init__(self, inner: Store, meter: Meter) -> None:
        self.inner = inner
        self._meter = meter

    @property
    def url(self) -> str:
        """Where the store is."""
        return self.inner.url

    @property
    def at_once(self) -> int:
        """How many requests it likes side by side."""
        return at_once(self.inner)

    def put(self, key: str, data: Buffer) -> None:
        """Create an object."""
        with self._request("put"):
            self.inner.put(key, data)
        self._meter.count("bytes", self.url, "put", by=memoryview(data).nbytes)

    def get(self, key: str) -> bytes:
        """The whole object."""
        with self._request("get"):
            data = self.inner.get(key)
        self._meter.count("bytes", self.url, "get", by=len(data))
        return data

    def get_range(self, key: str, start: int, length: int) -> Buffer:
        """A part of it."""
        with self._request("get"):
            data = self.inner.get_range(key, start, length)
        self._meter.count("bytes", self.url, "get", by=len(data))
        return data

    def head(self, key: str) -> ObjectInfo:
        """Size and time."""
        with self._request("head"):
            return self.inner.head(key)

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[ObjectInfo]:
        """Objects under `prefix`; counted once for each answer that S3 would give."""
        found = iter(self.inner.list(prefix, after=after))
        while True:
            with self._request("list"):
                page = list(islice(found, _PAGE))
            yield from page
            if len(page) < _PAGE:
                return

    def delete(self, key: str) -> None:
        """Remove an object."""
        with self._request("delete"):
            self.inner.delete(key)

    @contextmanager
    def _request(self, operation: str) -> Iterator[None]:
        self._meter.count("requests", self.url, operation)
        try:
            yield
        except (ObjectNotFound, ObjectExists):  # answers, not failures
            raise
        except MoraineError as error:
            self._meter.count("errors", self.url, operation, error.code)
            raise
