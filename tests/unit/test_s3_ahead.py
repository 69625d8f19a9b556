"""Reading ahead: in order, bounded, each object's own error, and never the wrong version."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import pytest

from moraine.errors import SourceVanished
from moraine.sources import s3_ahead
from moraine.sources.s3_ahead import ReadAhead
from moraine.sources.s3_client import Found

SLOW = 0.02


@dataclass
class Bucket:
    """Every key holds its own name and takes a while."""

    missing: set[str] = field(default_factory=set)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, key: str, start: int, length: int, *, version: str | None = None) -> Found:
        with self.lock:
            self.asked.append((key, version))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(SLOW)
        with self.lock:
            self.at_once -= 1
        if key in self.missing:
            raise SourceVanished(key)
        return Found(len(key), 0, "e", key.encode(), {}, {}, version)


def announced(count: int, size: int = 10) -> list[tuple[str, int, str | None]]:
    return [(f"{number:03}", size, f"v{number}") for number in range(count)]


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def ahead(bucket: Bucket) -> ReadAhead:
    return ReadAhead(bucket)  # type: ignore[arg-type]


def test_each_object_is_asked_for_once_and_several_at_a_time(bucket: Bucket, ahead: ReadAhead) -> None:
    ahead.expect(announced(100))
    began = time.monotonic()
    found = [ahead.take(key) for key, _, _ in announced(100)]
    took = time.monotonic() - began
    ahead.close()
    assert [item.data.decode() for item in found] == [key for key, _, _ in announced(100)]
    assert sorted(bucket.asked) == [(key, version) for key, _, version in announced(100)]
    assert 4 < bucket.most_at_once <= s3_ahead._REQUESTS + 1, "those in the pool, and the one that is waited for"
    assert took < 100 * SLOW / 2


def test_only_so_much_is_held(bucket: Bucket, ahead: ReadAhead) -> None:
    ahead.expect(announced(40, size=s3_ahead._BYTES // 3))
    for key, _, _ in announced(10):
        ahead.take(key)
        time.sleep(SLOW)
        assert len(ahead._fetched) <= s3_ahead._BYTES // s3_ahead.PART
    ahead.close()


def test_an_error_is_that_of_its_object(bucket: Bucket, ahead: ReadAhead) -> None:
    bucket.missing = {"003"}
    ahead.expect(announced(6))
    for key, _, _ in announced(6):
        if key == "003":
            with pytest.raises(SourceVanished):
                ahead.take(key)
        else:
            assert ahead.take(key).data == key.encode()
    ahead.close()


def test_what_is_left_out_or_asked_for_again_does_not_confuse(bucket: Bucket, ahead: ReadAhead) -> None:
    ahead.expect(announced(50))
    for key in ("001", "001", "030", "049", "elsewhere"):
        assert ahead.take(key).data == key.encode()
    assert [version for key, version in bucket.asked if key in ("001", "elsewhere")] == ["v1", "v1", None]
    ahead.expect(announced(3))
    assert ahead.take("002").version == "v2"
    assert len(ahead._fetched) <= s3_ahead._REQUESTS
    ahead.close()


def test_a_single_object_needs_no_thread(bucket: Bucket, ahead: ReadAhead) -> None:
    before = threading.active_count()
    ahead.expect(announced(1))
    assert ahead.take("000").version == "v0"
    assert threading.active_count() == before
    ahead.close()
