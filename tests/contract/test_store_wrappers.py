"""What wraps or examines a store: retries, faults, the probe, addresses."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import S3Server

from moraine.errors import (
    AccessDenied,
    ConfigError,
    MoraineError,
    ObjectExists,
    ObjectNotFound,
    StoreFull,
    StoreUnavailable,
    StoreUnfit,
)
from moraine.stores.base import Buffer, ObjectInfo, Store
from moraine.stores.fault import Call, Crash, Effect, Fault, FaultStore
from moraine.stores.local import LocalStore
from moraine.stores.memory import MemoryStore
from moraine.stores.open import open_store
from moraine.stores.probe import probe_store
from moraine.stores.retry import Patience, RetryingStore
from moraine.stores.s3 import S3Store, key_credentials


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
    assert clock.slept[:8] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0])
    assert max(clock.slept) == 10
    assert 50 < sum(clock.slept) <= 60
    assert raised.value.context["attempts"] == len(clock.slept) + 1

    clock = Time()
    with pytest.raises(StoreUnavailable):
        patient(FaultStore(MemoryStore(), [Fault(Effect.UNAVAILABLE)]), clock, lambda: 0.5, budget=1).get("key")
    assert clock.slept == pytest.approx([0.05, 0.1, 0.2, 0.4])


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
    assert clock.slept == [0.1] * 6, "progress renews patience"


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


def open_kind(kind: str, folder: Path, s3_bucket: Callable[[str], tuple[S3Server, str]]) -> Store:
    if kind == "local":
        return LocalStore(folder)
    if kind == "memory":
        return MemoryStore()
    server, bucket = s3_bucket(kind)
    return S3Store(bucket, credentials=key_credentials("test", "test", None), endpoint_url=server.endpoint_url)


@pytest.mark.parametrize("kind", ["local", "memory", "moto", "ministack"])
def test_the_probe_passes_what_is_fit(
    kind: str, tmp_path: Path, s3_bucket: Callable[[str], tuple[S3Server, str]]
) -> None:
    store = open_kind(kind, tmp_path, s3_bucket)
    found = probe_store(store, os.urandom)
    assert found.to_dict() == {
        "create_only": True, "create_race": True, "range_reads": True, "list_order": True, "read_after_write": True,
        "delete": True, "notes": [],
    }  # fmt: skip
    assert list(store.list("")) == []


def test_the_probe_of_a_local_disk_takes_no_time(tmp_path: Path) -> None:
    took = []
    for number in range(3):
        start = time.perf_counter()
        probe_store(LocalStore(tmp_path / str(number)), os.urandom)
        took.append(time.perf_counter() - start)
    assert min(took) < 0.05


def test_the_probe_lives_with_denied_deletes() -> None:
    inner = MemoryStore()
    found = probe_store(FaultStore(inner, [Fault(Effect.DENIED, "delete")]), lambda length: bytes(length))
    assert found.delete is False
    assert "cannot delete" in found.notes[0]
    assert [info.key for info in inner.list("")] == ["probe/0000000000000000-B", "probe/0000000000000000-b"]


class Overwriting(MemoryStore):
    def put(self, key: str, data: Buffer) -> None:
        self.delete(key)
        super().put(key, data)


class Silent(MemoryStore):
    """Says that it took what it did not take."""

    def put(self, key: str, data: Buffer) -> None:
        with contextlib.suppress(ObjectExists):
            super().put(key, data)


class Racy(MemoryStore):
    """Looks, then writes: create-only as long as nobody else writes."""

    def put(self, key: str, data: Buffer) -> None:
        try:
            self.head(key)
        except ObjectNotFound:
            time.sleep(0.01)
            self.delete(key)
            super().put(key, data)
        else:
            raise ObjectExists(key)


class WrongWinner(MemoryStore):
    """Accepts one put and keeps the bytes of another one."""

    def put(self, key: str, data: Buffer) -> None:
        try:
            super().put(key, data)
        except ObjectExists:
            if key.endswith("-B"):
                self.delete(key)
                super().put(key, data)
            raise


class Rangeless(MemoryStore):
    def get_range(self, key: str, start: int, length: int) -> bytes:
        return self.get(key)


class Unordered(MemoryStore):
    def list(self, prefix: str, *, after: str | None = None) -> Iterator[ObjectInfo]:
        return iter(sorted(super().list(prefix, after=after), key=lambda info: info.key.swapcase()))


class Aftless(MemoryStore):
    def list(self, prefix: str, *, after: str | None = None) -> Iterator[ObjectInfo]:
        return super().list(prefix)


class Undying(MemoryStore):
    def delete(self, key: str) -> None:
        pass


class Forgetful(MemoryStore):
    def list(self, prefix: str, *, after: str | None = None) -> Iterator[ObjectInfo]:
        return iter(list(super().list(prefix, after=after))[:1])


@pytest.mark.parametrize(
    ("kind", "broken", "words"),
    [
        (Overwriting, ["create_only", "create_race"], "a second put of a key replaced the object"),
        (Silent, ["create_only", "create_race"], "a second put of a key was accepted"),
        (Racy, ["create_race"], "puts of a key at the same time were accepted"),
        (WrongWinner, ["create_race"], "one was accepted and another one was kept"),
        (Rangeless, ["range_reads"], "came back wrong"),
        (Unordered, ["list_order"], "byte order of keys"),
        (Aftless, ["list_order"], "byte order of keys"),
        (Undying, ["read_after_write"], "after it was deleted"),
        (Forgetful, ["read_after_write"], "a listing missed an object"),
    ],
)
def test_the_probe_refuses_what_is_not_fit(kind: type[MemoryStore], broken: list[str], words: str) -> None:
    store = kind()
    with pytest.raises(StoreUnfit, match=words) as raised:
        probe_store(store, os.urandom)
    assert raised.value.context["broken"] == broken
    if kind is not Undying:
        assert list(MemoryStore.list(store, "")) == []


def test_the_probe_passes_on_what_makes_a_store_useless() -> None:
    for effect, expected in ((Effect.DENIED, AccessDenied), (Effect.FULL, StoreFull)):
        with pytest.raises(expected):
            probe_store(FaultStore(MemoryStore(), [Fault(effect, "put")]), os.urandom)


def test_addresses(tmp_path: Path) -> None:
    for url in (str(tmp_path), f"file://{tmp_path}", f"file://localhost{tmp_path}"):
        store = open_store(url)
        assert isinstance(store, LocalStore)
        assert store.url == str(tmp_path)
    assert open_store(f"file://{tmp_path}/a%20b").url == f"{tmp_path}/a b"
    name = f"memory://{tmp_path.name}"
    open_store(name).put("key", b"content")
    assert open_store(name).get("key") == b"content"
    assert open_store(name).url == name
    environ = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "very secret"}
    for url, expected in {"s3://b": "s3://b", "s3://b/": "s3://b", "s3://b/some/prefix/": "s3://b/some/prefix"}.items():
        assert open_store(url, environ=environ).url == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "~/backup",
        "gs://bucket",
        "s3://",
        "s3:///prefix",
        "s3://key:secret@bucket/x",
        "s3://b/x?y=z",
        "file://host/x",
    ],
)
def test_addresses_that_cannot_be(url: str) -> None:
    with pytest.raises(ConfigError) as raised:
        open_store(url, environ={"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"})
    assert raised.value.hint
    assert "secret" not in raised.value.message


def test_a_missing_certificate_is_a_matter_of_configuration() -> None:
    environ = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_CA_BUNDLE": "/not/there"}
    with pytest.raises(ConfigError, match="AWS_CA_BUNDLE"):
        open_store("s3://bucket", environ=environ)


def test_a_remote_store_is_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    with pytest.raises(MoraineError) as raised:
        open_store("s3://bucket", environ=environ, patience=0.3).get("key")
    assert raised.value.context["attempts"] > 1


def test_a_local_store_imports_no_sdk(tmp_path: Path) -> None:
    code = (
        "import sys; from moraine.stores.open import open_store\n"
        "store = open_store(sys.argv[1]); store.put('a/b', b'x'); assert store.get('a/b') == b'x'\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'boto3', 'botocore', 'obstore', 'pyarrow', 'airflow'}))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False,
                          env={"PYTHONPATH": str(Path(__file__).parents[2] / "include")})  # fmt: skip
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
