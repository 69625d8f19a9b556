"""How many requests run at once: bounded, one more when all is well, half as many when the server is busy."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from moraine.errors import ObjectNotFound, StoreUnavailable
from moraine.stores.memory import MemoryStore
from moraine.stores.pace import Pace
from moraine.stores.retry import Patience, RetryingStore


def well(pace: Pace, count: int) -> None:
    for _ in range(count):
        with pace.request():
            pass


def overload(pace: Pace) -> None:
    with pytest.raises(StoreUnavailable), pace.request():
        raise StoreUnavailable("SlowDown")


def test_it_grows_by_one_a_round_and_halves() -> None:
    pace = Pace(first=4, most=6)
    well(pace, 3)
    assert pace.limit == 4
    well(pace, 1)
    assert pace.limit == 5
    well(pace, 5 + 6 + 60)
    assert pace.limit == 6
    overload(pace)
    assert pace.limit == 3
    overload(pace)
    overload(pace)
    overload(pace)
    assert pace.limit == 1
    well(pace, 1)
    assert pace.limit == 2


def test_an_object_that_is_missing_is_no_overload() -> None:
    pace = Pace(first=4)
    with pytest.raises(ObjectNotFound), pace.request():
        raise ObjectNotFound("x")
    assert pace.limit == 4


def test_requests_that_fail_side_by_side_halve_it_once() -> None:
    pace = Pace(first=8)
    together = threading.Barrier(8)

    def fail(number: int) -> None:
        with suppress(StoreUnavailable), pace.request():
            together.wait(5)
            raise StoreUnavailable("SlowDown")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(fail, range(8)))
    assert pace.limit == 4


class BusyStore(MemoryStore):
    """Answers SlowDown when more than `most` requests are there at once."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.now, self.peak, self.refused = most, 0, 0, 0
        self._count = threading.Lock()

    def head(self, key: str) -> object:  # type: ignore[override]
        with self._count:
            self.now += 1
            self.peak = max(self.peak, self.now)
            refuse = self.now > self.most
            self.refused += refuse
        time.sleep(0.001)
        with self._count:
            self.now -= 1
        if refuse:
            raise StoreUnavailable("SlowDown")
        return super().head(key)


def test_many_threads_settle_near_what_a_busy_server_takes() -> None:
    inner = BusyStore(most=6)
    inner.put("key", b"")
    pace = Pace(first=8, most=64)
    store = RetryingStore(inner, Patience(lambda seconds: None, time.monotonic, lambda: 0.0), pace)
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda _: store.head("key"), range(2000)))
    # Twice what it takes, and not 32: where the machine holds threads back, a round goes well at a higher limit too.
    assert inner.peak <= 12
    assert 2 <= pace.limit <= 12
    assert inner.refused < 600  # without a pace nearly all of 32 at a time would be


def test_a_pause_holds_no_turn() -> None:
    pace = Pace(first=1)
    inner = BusyStore(most=0)
    inner.put("key", b"")

    def sleep(seconds: float) -> None:
        with pace.request():  # would wait for ever
            inner.most = 1

    RetryingStore(inner, Patience(sleep, time.monotonic, lambda: 0.5), pace).head("key")
    assert inner.refused == 1
