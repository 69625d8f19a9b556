"""What is at the keys of a mirror is known by few requests, whatever the shape of the tree, and none too many held."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from moraine.errors import StoreUnavailable
from moraine.sources import s3_mirror_known
from moraine.sources.s3_client import Page, S3Bucket
from moraine.sources.s3_mirror_known import Known


class Bucket:
    """A listing of keys, a page of `most` at a time."""

    def __init__(self, sizes: dict[str, int], most: int = 10) -> None:
        self.sizes = dict(sorted(sizes.items()))
        self.most = most
        self.asked: list[tuple[str, str]] = []
        self.broken = ""

    def page(self, prefix: str, *, delimiter: str = "", token: str | None = None) -> Page:
        self.asked.append((prefix, delimiter))
        if self.broken and prefix == self.broken:
            raise StoreUnavailable("gone")
        below = [key for key in self.sizes if key.startswith(prefix) and key > (token or "")]
        names = [key for key in below if not delimiter or delimiter not in key[len(prefix) :]]
        objects = cast(Any, [SimpleNamespace(key=key, size=self.sizes[key]) for key in names[: self.most]])
        return Page(objects, [], names[self.most - 1] if len(names) > self.most else None)


def look(bucket: Bucket, keys: list[str]) -> dict[str, int | None]:
    """Sizes at keys, as a copy asks for them."""
    known = Known(cast(S3Bucket, bucket))
    try:
        firsts = {key[: key.rfind("/") + 1]: key for key in reversed(keys)}
        known.expect(list(reversed(firsts.values())))
        return {key: known.size(key) for key in keys}
    finally:
        known.close()


def test_of_a_new_mirror_nothing_is_asked_but_once() -> None:
    bucket = Bucket({"m/.moraine/config": 3})
    keys = [f"m/d{number}/{name}" for number in range(50) for name in "ab"]
    assert set(look(bucket, keys).values()) == {None}
    assert bucket.asked == [("m/d", "")]


def test_of_a_little_subtree_all_is_known_at_once() -> None:
    sizes = {f"m/d/{number}/x": number for number in range(9)} | {f"m/e/{number}": 1 for number in range(99)}
    bucket = Bucket(sizes)
    keys = [f"m/d/{number}/{name}" for number in range(9) for name in "xy"]
    assert look(bucket, keys) == {key: sizes.get(key) for key in keys}
    assert bucket.asked == [("m/d/", "")]


@pytest.mark.parametrize("ahead", [1, 64])
def test_of_a_large_tree_each_directory_is_asked_for_once(monkeypatch: pytest.MonkeyPatch, ahead: int) -> None:
    monkeypatch.setattr(s3_mirror_known, "_AHEAD", ahead)
    sizes = {f"m/{number:02}/{name}": number for number in range(30) for name in range(5)}
    bucket = Bucket(sizes)
    keys = [f"m/{number:02}/{name}" for number in range(0, 30, 3) for name in range(3, 7)]
    assert look(bucket, keys) == {key: sizes.get(key) for key in keys}
    assert sorted(bucket.asked) == sorted([("m/", ""), *((f"m/{number:02}/", "/") for number in range(0, 30, 3))])


def test_little_is_held_before_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_mirror_known, "_HELD", 20)
    bucket = Bucket({f"m/{number:02}/{name}": 1 for number in range(30) for name in range(40)}, most=100)
    known = Known(cast(S3Bucket, bucket))
    known.expect([f"m/{number:02}/0" for number in range(30)])
    time.sleep(0.2)  # long enough to list them all
    assert len(bucket.asked) <= 1 + 8  # a listing by each thread at the most
    for number in range(30):
        assert known.size(f"m/{number:02}/39") == 1
        assert known.size(f"m/{number:02}/40") is None
    assert sorted(set(bucket.asked)) == sorted(bucket.asked)
    assert known._held == 0
    known.close()


def test_what_nobody_expected_is_asked_for() -> None:
    bucket = Bucket({f"m/{number:02}/{name}": 7 for number in range(9) for name in range(9)})
    known = Known(cast(S3Bucket, bucket))
    assert known.size("m/03/3") == 7
    known.expect(["m/05/1"])
    assert known.size("m/01/1") == 7
    assert known.size("m/05/1") == 7
    assert known.size("m/05/x") is None
    known.close()


def test_a_listing_that_fails_fails_its_directory() -> None:
    bucket = Bucket({f"m/{number:02}/{name}": 7 for number in range(9) for name in range(9)})
    bucket.broken = "m/01/"
    known = Known(cast(S3Bucket, bucket))
    known.expect([f"m/{number:02}/1" for number in range(9)])
    assert known.size("m/00/1") == 7
    with pytest.raises(StoreUnavailable):
        known.size("m/01/1")
    known.close()
