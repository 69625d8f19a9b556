"""Whole objects of a repository's metadata, asked for ahead, and kept for a while.

The steps of a night and of a restore read the same snapshots, manifests and segments. Objects are immutable and those
who read them check their digests, so what was fetched once serves again. Packs do not come this way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol, TypeVar

from moraine.stores.ahead import begin
from moraine.stores.base import Store

_ROWS_AHEAD = 1 << 18  # of tables on their way: about 16 MiB
_MOST_AHEAD = 16


class Ref(Protocol):
    """What names a stored table."""

    @property
    def key(self) -> str:
        """Its object key; empty where there is none."""

    @property
    def rows(self) -> int:
        """How many it has."""


R = TypeVar("R", bound=Ref)


class Objects:
    """Reads objects of one store; the last ones stay in memory, `most` bytes of them."""

    @classmethod
    def of(cls, store: Store | Objects) -> Objects:
        """Those of a store that nobody else shares keep nothing."""
        return store if isinstance(store, Objects) else cls(store, 0)

    def __init__(self, store: Store, most: int = 16 << 20) -> None:
        self._store = store
        self._most = most
        self._lock = threading.Lock()
        self._coming: dict[str, Callable[[], bytes]] = {}
        self._kept: dict[str, bytes] = {}  # the one used last at the end
        self._size = 0

    def ahead(self, key: str) -> None:
        """This will be read soon: where the store is far away, it is fetched from now on."""
        with self._lock:
            if key not in self._kept and key not in self._coming:
                self._coming[key] = begin(self._store, partial(self._store.get, key))

    def walk(self, refs: Sequence[R]) -> Iterator[R]:
        """The refs in order; while one is at hand, the objects of the next ones are on their way."""
        begun = rows = 0
        for number, ref in enumerate(refs):
            while begun < len(refs) and (
                begun <= number or (begun < number + _MOST_AHEAD and rows + refs[begun].rows <= _ROWS_AHEAD)
            ):
                if refs[begun].key:
                    self.ahead(refs[begun].key)
                rows += refs[begun].rows
                begun += 1
            yield ref
            rows -= ref.rows

    def get(self, key: str) -> bytes:
        """The whole object. Raises ObjectNotFound."""
        with self._lock:
            data = self._kept.pop(key, None)
            if data is not None:
                self._kept[key] = data
                return data
            load = self._coming.get(key)
        try:
            data = load() if load else self._store.get(key)
            self._keep(key, data)
        finally:
            with self._lock:
                self._coming.pop(key, None)
        return data

    def clear(self) -> None:
        """Keep nothing: what is read from now on comes from the store."""
        with self._lock:
            self._coming, self._kept, self._size = {}, {}, 0

    def _keep(self, key: str, data: bytes) -> None:
        with self._lock:
            if key in self._kept or len(data) > self._most:
                return
            self._kept[key] = data
            self._size += len(data)
            while self._size > self._most:
                oldest = next(iter(self._kept))
                self._size -= len(self._kept.pop(oldest))
