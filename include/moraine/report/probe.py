"""What a store can and cannot do, in words: the probe's findings, for people and for JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moraine.errors import ObjectNotFound, StoreUnfit
from moraine.model.record import dataclass
from moraine.repository import layout
from moraine.stores.base import Store
from moraine.stores.probe import probe_store

_WORDS = {
    "create_only": "an object that is there is never replaced by a put (If-None-Match: *)",
    "create_race": "of several puts of one key at the same moment exactly one is accepted",
    "range_reads": "parts of an object can be read",
    "list_order": "keys are listed in byte order, and from a key on",
    "read_after_write": "what was written can be read and is listed at once",
    "delete": "these credentials may delete",
    "flat_keys": "an object `a` may stand beside `a/b` (a repository does without)",
}


@dataclass(frozen=True)
class StoreProbe:
    """What was found out about a store."""

    store: str
    repository: bool  # one is there already
    can: dict[str, bool]
    notes: tuple[str, ...]
    unfit: StoreUnfit | None  # why it cannot hold a repository

    def lines(self) -> list[str]:
        """A line per capability, then what else there is to say."""
        there = "a repository is there" if self.repository else "no repository is there yet"
        verdict = "cannot" if self.unfit else "can"
        found = [f"{'yes' if able else 'NO ':<4} {_WORDS[name]}" for name, able in self.can.items()]
        return [*found, *self.notes, f"{self.store} {verdict} hold a repository; {there}"]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        head = {"store": self.store, "fit": self.unfit is None, "repository": self.repository}
        return {**head, "can": self.can, "notes": list(self.notes)}


def probe(store: Store, entropy: Callable[[int], bytes]) -> StoreProbe:
    """Try what a repository relies on, with a few objects under `probe/` that are deleted again.

    Raises:
        StoreError: the store refuses to work at all (no access, no bucket …).
    """
    try:
        store.head(layout.CONFIG)
        there = True
    except ObjectNotFound:
        there = False
    try:
        found = probe_store(store, entropy).to_dict()
    except StoreUnfit as unfit:
        can = {name: name not in unfit.context["broken"] for name in _WORDS if name not in ("delete", "flat_keys")}
        return StoreProbe(store.url, there, can, (), unfit)
    return StoreProbe(store.url, there, {name: found[name] for name in _WORDS}, tuple(found["notes"]), None)
