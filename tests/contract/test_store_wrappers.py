"""What wraps a store: retries and faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from moraine.errors import (
    AccessDenied,
    ObjectExists,
    StoreFull,
    StoreUnavailable,
)
from moraine.stores.base import ObjectInfo, Store
from moraine.stores.fault import Call, Crash, Effect, Fault, FaultStore
from moraine.stores.memory import MemoryStore
from moraine.stores.retry import Patience, RetryingStore


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def patient(
    inner: Store, clock: Time, random: Callable[[], float] = lambda: 0.999, budget: float = 60
) -> RetryingStore:
    return RetryingStore(inner, Patience(clock.sleep, lambda: clock.now, random, budget=budget))


@pytest.mark.parametrize("verb", ["put", "get", "get_range", "head", "list", "delete"])
def test_passing_failures_are_tried_again(verb: Any) -> None:
    inner = MemoryStore()
    inner.put("a/key", b"content")
    clock = Time()
    faulty = FaultStore(inner, [Fault(Effect.UNAVAILABLE, verb, times=3)])
    store = patient(faulty, clock)
    answers: dict[str, Callable[[], object]] = {
        "put": lambda: store.put("a/new", b""),
        "get": lambda: store.get("a/key"),
        "get_range": lambda: store.get_range("a/key", 1, 2),
        "head": lambda: store.head("a/key").size,
        "list": lambda: [info.key for info in store.list("a/")],
        "delete": lambda: store.delete("a/key"),
    }
    expected = {"get": b"content", "get_range": b"on", "head": 7, "list": ["a/key"]}.get(verb)
    assert answers[verb]() == expected
    assert [call.verb for call in faulty.calls] == [verb] * 4
    assert len(clock.slept) == 3


def test_waits_grow_with_full_jitter_up_to_a_limit() -> None:
    clock = Time()
    with pytest.raises(StoreUnavailable) as raised:
        patient(FaultStore(MemoryStore(), [Fault(Effect.UNAVAILABLE)]), clock, lambda: 1.0).get("key")
    assert clock.slept[:9] == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0])
    assert max(clock.slept) == 10
    assert 50 < sum(clock.slept) <= 60
    assert raised.value.context["attempts"] == len(clock.slept) + 1

    clock = Time()
    with pytest.raises(StoreUnavailable):
        patient(FaultStore(MemoryStore(), [Fault(Effect.UNAVAILABLE)]), clock, lambda: 0.5, budget=1).get("key")
    assert clock.slept == pytest.approx([0.025, 0.05, 0.1, 0.2, 0.4])


def test_a_call_that_took_longer_than_the_budget_is_tried_again() -> None:
    clock = Time()

    class Slow(MemoryStore):
        def get(self, key: str) -> bytes:
            clock.now += 600
            return super().get(key)

    inner = Slow()
    inner.put("key", b"content")
    assert patient(FaultStore(inner, [Fault(Effect.LOST, times=1)]), clock).get("key") == b"content"


@pytest.mark.parametrize("effect", [Effect.FULL, Effect.DENIED])
def test_final_failures_are_not_tried_again(effect: Effect) -> None:
    clock = Time()
    faulty = FaultStore(MemoryStore(), [Fault(effect)])
    with pytest.raises((StoreFull, AccessDenied)):
        patient(faulty, clock).put("key", b"")
    assert (len(faulty.calls), clock.slept) == (1, [])


def test_a_put_whose_answer_got_lost_succeeds() -> None:
    inner = MemoryStore()
    patient(FaultStore(inner, [Fault(Effect.LOST, "put", times=2)]), Time()).put("key", memoryview(b"content"))
    assert inner.get("key") == b"content"


def test_a_put_whose_answer_got_lost_also_survives_a_failing_read() -> None:
    inner = MemoryStore()
    faults = [Fault(Effect.LOST, "put", times=1), Fault(Effect.UNAVAILABLE, "get", times=2)]
    patient(FaultStore(inner, faults), Time()).put("key", b"content")
    assert inner.get("key") == b"content"


def test_a_put_that_met_anothers_object_fails() -> None:
    inner = MemoryStore()
    inner.put("key", b"another's")
    with pytest.raises(ObjectExists):
        patient(FaultStore(inner, [Fault(Effect.UNAVAILABLE, "put", times=1)]), Time()).put("key", b"content")
    with pytest.raises(ObjectExists):
        patient(inner, Time()).put("key", b"another's")
    assert inner.get("key") == b"another's"


def test_a_listing_that_breaks_goes_on_where_it_was() -> None:
    class Breaking(MemoryStore):
        def list(self, prefix: str, *, after: str | None = None) -> Iterator[ObjectInfo]:
            for number, info in enumerate(super().list(prefix, after=after)):
                if number == 3:
                    raise StoreUnavailable("broke")
                yield info

    store = Breaking()
    expected = [f"a/{number:02d}" for number in range(20)]
    for key in expected:
        store.put(key, b"")
    clock = Time()
    assert [info.key for info in patient(store, clock, lambda: 1.0).list("a/")] == expected
    assert clock.slept == [0.05] * 6, "progress renews patience"


def test_faults_hit_what_they_name() -> None:
    store = FaultStore(
        MemoryStore(), [Fault(Effect.FULL, "put", "packs/*", skip=1, times=2), Fault(Effect.DENIED, keys="keys/*")]
    )
    store.put("packs/1", b"")
    for _ in range(2):
        with pytest.raises(StoreFull):
            store.put("packs/2", b"")
    store.put("packs/2", b"")
    store.put("log/1", b"")
    for call in (store.get, store.head, store.delete):
        with pytest.raises(AccessDenied):
            call("keys/1")
    assert store.calls[0] == Call(1, "put", "packs/1")
    assert [call.number for call in store.calls] == list(range(1, 9))


def test_bytes_are_damaged_on_the_way() -> None:
    inner = MemoryStore()
    inner.put("key", b"0123456789")
    cut = FaultStore(inner, [Fault(Effect.TRUNCATE)])
    assert (cut.get("key"), cut.get_range("key", 0, 4)) == (b"01234", b"01")
    flipped = FaultStore(inner, [Fault(Effect.FLIP, times=1)])
    assert flipped.get("key") == b"0123446789"
    assert flipped.get("key") == inner.get("key") == b"0123456789"


@pytest.mark.parametrize(("crash", "there"), [("before", False), ("after", True)])
def test_after_a_crash_nothing_reaches_the_store(crash: Any, there: bool) -> None:
    inner = MemoryStore()
    store = FaultStore(inner, crash_at=2, crash=crash)
    store.put("1", b"")
    with pytest.raises(Crash):
        store.put("2", b"")
    for call in (lambda: store.put("3", b""), lambda: store.delete("1"), lambda: store.list("")):
        with pytest.raises(Crash):
            call()
    assert not issubclass(Crash, Exception)
    assert [info.key for info in inner.list("")] == (["1", "2"] if there else ["1"])
