"""Counting what a store is asked: the store behaves as ever, each try counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from collector import Collector, collecting
from moraine.cli.main import main
from moraine.errors import ObjectExists, ObjectNotFound, StoreUnavailable
from moraine.stores.memory import MemoryStore
from moraine.stores.metered import Meter, MeteredStore
from moraine.stores.open import open_store
from servers import S3Server, told


def test_it_counts_and_hands_on() -> None:
    meter = Meter()
    store = MeteredStore(MemoryStore("m"), meter)
    store.put("a/b", b"12345")
    assert (store.get("a/b"), store.get_range("a/b", 1, 2), store.head("a/b").size) == (b"12345", b"23", 5)
    with pytest.raises(ObjectExists):
        store.put("a/b", b"x")
    with pytest.raises(ObjectNotFound):
        store.get("c")
    assert [info.key for info in store.list("")] == ["a/b"]
    store.delete("a/b")
    url = store.url
    assert meter.take() == {
        ("requests", url, "put"): 2,
        ("requests", url, "get"): 3,
        ("requests", url, "head"): 1,
        ("requests", url, "list"): 1,
        ("requests", url, "delete"): 1,
        ("bytes", url, "put"): 5,
        ("bytes", url, "get"): 7,
    }
    assert meter.take() == {}


@pytest.mark.parametrize("count", [0, 999, 1000, 1001, 2500])
def test_a_listing_is_whole_and_counts_as_s3_does(count: int) -> None:
    inner, meter = MemoryStore(), Meter()
    for number in range(count):
        inner.put(f"k{number:05}", b"")
    store = MeteredStore(inner, meter)
    assert [info.key for info in store.list("")] == [f"k{number:05}" for number in range(count)]
    assert meter.take() == {("requests", store.url, "list"): count // 1000 + 1}


def test_each_try_counts() -> None:
    meter = Meter()
    with told() as server:
        server.answers = [(503, b"<Error><Code>SlowDown</Code></Error>"), (500, b""), (200, b"")]
        environ = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        store = open_store("s3://bucket", endpoint_url=server.endpoint_url, environ=environ, meter=meter)
        store.put("key", b"12")
        server.error(503)
        impatient = open_store(
            "s3://bucket", endpoint_url=server.endpoint_url, environ=environ, meter=meter, patience=0
        )
        with pytest.raises(StoreUnavailable):
            impatient.get("key")
    counted = {key[0:1] + key[2:]: value for key, value in meter.take().items()}
    assert counted.pop(("errors", "get", "store-unavailable")) == counted.pop(("requests", "get"))
    assert counted == {("requests", "put"): 3, ("errors", "put", "store-unavailable"): 2, ("bytes", "put"): 2}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        yield collector


def test_a_backup_into_s3_tells_what_it_asked(
    s3_bucket: Callable[[str], tuple[S3Server, str]],
    collector: Collector,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, bucket = s3_bucket("moto")
    for name, value in server.credentials.items():
        monkeypatch.setenv(name, value)
    source = tmp_path_factory.mktemp("source")
    (source / "file").write_bytes(b"x" * 5000)
    flags = ["--repo", f"s3://{bucket}/r", "--endpoint-url", server.endpoint_url]
    assert main(["repo", "init", "--plain", *flags]) == 0
    assert main(["backup", str(source), "--json", *flags]) == 0
    (put,) = collector.find("moraine.store.bytes", operation="put", store=f"s3://{bucket}/r")
    (requests,) = collector.find("moraine.store.requests", operation="put")
    assert put.value > 0 and requests.value >= 4 and requests.delta
    assert collector.find("moraine.store.errors") == []
