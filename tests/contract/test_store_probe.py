"""The probe passes what is fit, and says of everything else what it cannot do."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from moraine.errors import (
    AccessDenied,
    ObjectExists,
    ObjectNotFound,
    StoreFull,
    StoreUnfit,
)
from moraine.stores.base import Buffer, ObjectInfo, Store
from moraine.stores.fault import Effect, Fault, FaultStore
from moraine.stores.local import LocalStore
from moraine.stores.memory import MemoryStore
from moraine.stores.probe import probe_store
from moraine.stores.s3 import S3Store, key_credentials
from servers import PATHS, RACY, SERVERS, S3Server


def open_kind(kind: str, folder: Path, s3_bucket: Callable[[str], tuple[S3Server, str]]) -> Store:
    if kind == "local":
        return LocalStore(folder)
    if kind == "memory":
        return MemoryStore()
    server, bucket = s3_bucket(kind)
    return S3Store(bucket, credentials=key_credentials("test", "test", None), endpoint_url=server.endpoint_url)


@pytest.mark.parametrize("kind", ["local", "memory", *SERVERS])
def test_the_probe_passes_what_is_fit(
    kind: str, tmp_path: Path, s3_bucket: Callable[[str], tuple[S3Server, str]]
) -> None:
    store = open_kind(kind, tmp_path, s3_bucket)
    try:
        found = probe_store(store, os.urandom)
    except StoreUnfit as error:
        if kind in RACY and error.context["broken"] == ["create_race"]:
            pytest.skip(f"{kind} let several create-only puts win, and the probe said so")
        raise
    said = found.to_dict().pop("notes")
    assert found.to_dict() == {
        "create_only": True, "create_race": True, "range_reads": True, "list_order": True, "read_after_write": True,
        "delete": True, "flat_keys": kind not in {"local", *PATHS}, "notes": said,
    }  # fmt: skip
    if kind in PATHS:
        assert said == [
            "this server takes keys for paths of files: no object `a` can stand beside `a/b`. A repository does"
            " without; a bucket that has such keys can neither be mirrored nor restored to it"
        ]
    else:
        assert said == []
    assert list(store.list("")) == []


def test_the_probe_is_short(tmp_path: Path) -> None:
    store = FaultStore(LocalStore(tmp_path))
    probe_store(store, os.urandom)
    assert sum(call.verb == "put" for call in store.calls) == 12  # each takes two syncs, which is what costs
    assert len(store.calls) < 30


def test_a_race_that_is_not_begun_by_all_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    start, begun = threading.Thread.start, list[threading.Thread]()

    def scarce(thread: threading.Thread) -> None:
        if len(begun) == 2:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    with pytest.raises(RuntimeError, match="new thread"):
        probe_store(MemoryStore(), os.urandom)
    assert not any(thread.is_alive() for thread in begun)


def test_the_probe_lives_with_denied_deletes() -> None:
    inner = MemoryStore()
    found = probe_store(FaultStore(inner, [Fault(Effect.DENIED, "delete")]), lambda length: bytes(length))
    assert found.delete is False
    assert "cannot delete" in found.notes[0]
    stays = ["probe/0000000000000000-B", "probe/0000000000000000-b"]
    stays += ["probe/0000000000000000-d", "probe/0000000000000000-d/e"]
    assert [info.key for info in inner.list("")] == stays


@pytest.mark.parametrize(("minutes", "words"), [(20, "20 minutes behind this"), (-20, "20 minutes ahead of this")])
def test_the_probe_compares_clocks(minutes: int, words: str) -> None:
    def clock() -> datetime:
        return datetime.now(UTC) + timedelta(minutes=minutes)

    (note,) = probe_store(MemoryStore(), os.urandom, clock).notes
    assert f"the store's clock is {words}" in note
    assert probe_store(MemoryStore(), os.urandom).notes == ()


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
