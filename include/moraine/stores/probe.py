"""What a store can do, found out by doing it: a brand name proves nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from moraine.errors import AccessDenied, ObjectExists, ObjectNotFound, ReadOnlyStore, StoreError, StoreUnfit
from moraine.model.record import dataclass
from moraine.stores.base import Store

PREFIX = "probe/"
_RACERS = 8
_MOST_SKEW = timedelta(minutes=5)


@dataclass(frozen=True)
class Capabilities:
    """What the probe saw; `moraine.json` records it. A repository needs everything but the last two."""

    create_only: bool  # a put never replaces an object
    create_race: bool  # of puts at the same time one wins, and its bytes are there
    range_reads: bool
    list_order: bool  # byte order of keys, `after` respected
    read_after_write: bool  # what was put is seen at once, by get and list
    delete: bool  # these credentials may delete
    flat_keys: bool  # `a` may stand beside `a/b`: no matter for a repository
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "notes": list(self.notes)}


def probe_store(
    store: Store, entropy: Callable[[int], bytes], clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Capabilities:
    """Try the calls that a repository relies on, with objects under `probe/` that are deleted again.

    What the store cannot do, though a repository can do without it, is said in the notes.

    Raises:
        StoreUnfit: a call did not do what the repository relies on.
        StoreError: the store refuses to work at all (no access, no space, no bucket …).
    """
    probe = _Probe(store, PREFIX + entropy(8).hex())
    probe.create_only()
    probe.create_race()
    probe.range_reads()
    probe.listing()
    probe.compare_clocks(clock)
    flat_keys = probe.flat_keys()
    delete = probe.clean_up()
    if probe.broken:
        raise StoreUnfit(
            f"{store.url} cannot hold a repository: " + "; ".join(probe.broken.values()),
            hint="use a store, or a version of its server, that passes; nothing but the probe was written",
            broken=sorted(probe.broken),
        )
    return Capabilities(True, True, True, True, True, delete, flat_keys, tuple(probe.notes))


class _Probe:
    def __init__(self, store: Store, start: str) -> None:
        self._store = store
        self._first = start + "-b"  # written first, listed last
        self._raced = start + "-B"
        self._beside = start + "-d"
        self._written = [self._first, self._raced]
        self._content = b"moraine probe " + start.encode()
        self.broken: dict[str, str] = {}
        self.notes: list[str] = []

    def create_only(self) -> None:
        self._store.put(self._first, self._content)
        if self._get(self._first) != self._content:
            self.broken["read_after_write"] = "an object could not be read right after it was written"
        try:
            self._store.put(self._first, b"another" + self._content)
        except ObjectExists:
            pass
        else:
            self.broken["create_only"] = "a second put of a key was accepted (it must honour If-None-Match: *)"
        if self._get(self._first) not in (None, self._content):
            self.broken["create_only"] = "a second put of a key replaced the object (it must honour If-None-Match: *)"

    def create_race(self) -> None:
        start = threading.Barrier(_RACERS)

        def race(number: int) -> bool:
            start.wait()
            try:
                self._store.put(self._raced, self._racer(number))
            except ObjectExists:
                return False
            return True

        with ThreadPoolExecutor(_RACERS) as pool:
            try:
                outcomes = pool.map(race, range(_RACERS))
            except BaseException:  # an interrupt, or no thread to be had
                start.abort()  # or those at the start would wait for ever for the others
                raise
            won = [number for number, winner in enumerate(outcomes) if winner]
        if len(won) != 1:
            self.broken["create_race"] = f"{len(won)} of {_RACERS} puts of a key at the same time were accepted"
        elif self._get(self._raced) != self._racer(won[0]):
            self.broken["create_race"] = "of puts of a key at the same time, one was accepted and another one was kept"

    def range_reads(self) -> None:
        content = self._get(self._first) or b""
        end = len(content)
        for offset, length in ((0, 4), (3, end - 5), (end - 2, 100), (end, 5)):
            if self._store.get_range(self._first, offset, length) != content[offset : offset + length]:
                self.broken["range_reads"] = f"bytes {offset} to {offset + length} of an object came back wrong"

    def listing(self) -> None:
        ours = {self._first, self._raced}
        keys = [info.key for info in self._store.list(PREFIX) if info.key in ours]
        if set(keys) != ours:
            self.broken["read_after_write"] = "a listing missed an object that had just been written"
            return
        rest = [info.key for info in self._store.list(PREFIX, after=self._raced) if info.key in ours]
        if keys != sorted(keys) or rest != [key for key in keys if key > self._raced]:
            self.broken["list_order"] = "a listing was not in byte order of keys"

    def compare_clocks(self, clock: Callable[[], datetime]) -> None:
        ahead = self._store.head(self._first).modified - clock()
        if abs(ahead) > _MOST_SKEW:
            minutes = round(abs(ahead) / timedelta(minutes=1))
            self.notes.append(
                f"the store's clock is {minutes:,} minutes {'ahead of' if ahead > timedelta(0) else 'behind'} this"
                " machine's: set them right before ages of objects are relied on"
            )

    def flat_keys(self) -> bool:
        try:
            for key in (self._beside + "/e", self._beside):
                self._store.put(key, self._content)
                self._written.append(key)
        except StoreError:
            if self._store.url.startswith("s3://"):  # of a directory nobody expects anything else
                self.notes.append(
                    "this server takes keys for paths of files: no object `a` can stand beside `a/b`. A repository does"
                    " without; a bucket that has such keys can neither be mirrored nor restored to it"
                )
            return False
        return True

    def clean_up(self) -> bool:
        try:
            for key in self._written:
                self._store.delete(key)
        except (AccessDenied, ReadOnlyStore):
            self.notes.append(
                f"these credentials cannot delete: objects stay under {PREFIX}; sweep and prune need others"
            )
            return False
        if self._get(self._first) is not None:
            self.broken["read_after_write"] = "an object could still be read after it was deleted"
        return True

    def _racer(self, number: int) -> bytes:
        return self._content + b" racer %d" % number

    def _get(self, key: str) -> bytes | None:
        try:
            return self._store.get(key)
        except ObjectNotFound:
            return None
