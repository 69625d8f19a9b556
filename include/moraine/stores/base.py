"""The port to an object service. A store knows keys and bytes; it never learns what a pack or a snapshot is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Protocol

from moraine.model.record import dataclass

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a listing says of one object; `size` in bytes, `modified` by the store's own clock."""

    key: str
    size: int
    modified: datetime


class Store(Protocol):
    """Immutable objects under '/'-separated ASCII keys.

    One that is far away also says how many requests it likes `at_once` (`stores/ahead.py`).

    Every method may be called from several threads at once. Failures are errors of `moraine.errors`, never an SDK's:
    `ObjectNotFound`, `ObjectExists`, `AccessDenied`, `StoreFull`, `StoreUnavailable`, `ReadOnlyStore`.
    """

    @property
    def url(self) -> str:
        """Where this store is, as a user would write it; never with secrets."""

    def put(self, key: str, data: Buffer) -> None:
        """Create an object; durable once this returns.

        Raises:
            ObjectExists: an object of this key is there; it is left as it was.
        """

    def get(self, key: str) -> bytes:
        """The whole object. Raises ObjectNotFound."""

    def get_range(self, key: str, start: int, length: int) -> Buffer:
        """`length` bytes from `start`; fewer only where the object ends. Raises ObjectNotFound."""

    def head(self, key: str) -> ObjectInfo:
        """Size and time of one object. Raises ObjectNotFound."""

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[ObjectInfo]:
        """Objects whose key starts with `prefix` (empty, or ending in '/'), in byte order of keys, past `after`."""

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
