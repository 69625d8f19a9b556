"""The log's objects as they are stored: what can be fetched before there are keys to read them with."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice

from moraine.model.record import dataclass
from moraine.repository import layout
from moraine.stores.ahead import begin, gather
from moraine.stores.base import Store

_MOST_AHEAD = 256  # entries held before anybody asks for them

Stored = tuple[str, bytes]  # key, data


@dataclass(frozen=True, slots=True)
class LogObjects:
    """The newest checkpoint, if there is one, and the first entries after it, oldest first."""

    checkpoint: Stored | None
    entries: list[Stored]

    @property
    def whole(self) -> bool:
        """Whether there were no more entries."""
        return len(self.entries) < _MOST_AHEAD


def fetch_log(store: Store) -> LogObjects:
    """Fetch the end of the log."""
    newest = ""
    for info in store.list(layout.CHECKPOINTS):
        newest = info.key
    if not newest:
        return LogObjects(None, _first(stored_entries(store)))
    load = begin(store, partial(store.get, newest))
    entries = _first(stored_entries(store, layout.log_entry(layout.log_number(newest))))
    return LogObjects((newest, load()), entries)


def stored_entries(store: Store, after: str | None = None, upto: int | None = None) -> Iterator[Stored]:
    """The entries' objects in order, `upto` that number; several are fetched at once where the store is far away."""
    keys: list[str] = []
    for info in store.list(layout.LOG, after=after):
        if info.key.startswith(layout.CHECKPOINTS) or (upto is not None and layout.log_number(info.key) > upto):
            break
        keys.append(info.key)
    yield from zip(keys, gather(store, (partial(store.get, key) for key in keys)), strict=True)


def _first(entries: Iterator[Stored]) -> list[Stored]:
    return list(islice(entries, _MOST_AHEAD))
