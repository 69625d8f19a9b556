"""The order and content of a listing, for any set of keys, page size and batch size, against a naive model."""

from __future__ import annotations

from unittest.mock import patch

import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from moraine.model.entry import Kind, join_path, row_key, split_path
from moraine.sources import s3_listing
from moraine.sources.base import ListShard
from moraine.sources.excludes import ExcludeRules
from moraine.sources.s3_client import Listed, Page
from moraine.sources.s3_names import path_of
from moraine.sources.s3_rows import LISTED

_PARTS = st.sampled_from(["", "", "a", "a", "a-b", "a.b", "b", "..", "%", "x" * 300, "x" * 254, "x" * 255, "é"])
KEYS = st.lists(_PARTS, min_size=1, max_size=5).map("/".join).filter(bool)


class Bucket:
    """A bucket in memory that pages as S3 does: keys and common prefixes together, in byte order."""

    def __init__(self, keys: set[str], size: int) -> None:
        self.keys, self.size, self.requests = sorted(keys, key=str.encode), size, 0

    def page(self, prefix: str, *, delimiter: str = "", token: str | None = None, most: int = 1000) -> Page:
        self.requests += 1
        found: dict[str, Listed | None] = {}
        for key in self.keys:
            if key.startswith(prefix):
                end = key.find(delimiter, len(prefix)) if delimiter else -1
                name = key if end < 0 else key[: end + 1]
                found[name] = None if end >= 0 else Listed(key, len(key), 7, key, None)
        names = [name for name in found if not token or name.encode() > token.encode()]
        page = names[: self.size]
        objects = [item for name in page if (item := found[name])]
        prefixes = [name for name in page if not found[name]]
        return Page(objects, prefixes, page[-1] if len(names) > self.size else None)


def listed(
    bucket: Bucket, prefix: str = "", excludes: ExcludeRules | None = None, shard: ListShard | None = None
) -> list[tuple[bytes, bytes, int]]:
    listing = s3_listing.Listing(bucket, prefix, excludes or ExcludeRules(), shard)
    batches = list(listing.batches())
    assert all(batch.schema == LISTED for batch in batches)
    rows = pa.Table.from_batches(batches, LISTED)
    return list(zip(rows["dir"].to_pylist(), rows["name"].to_pylist(), rows["kind"].to_pylist(), strict=True))


def expected(keys: set[str], prefix: str = "") -> list[tuple[bytes, bytes, int]]:
    below = [key[len(prefix) :].encode() for key in keys if key.startswith(prefix)]
    prefixes = {key[:at] for key in below for at in range(len(key)) if key[at : at + 1] == b"/"}
    paths = {path_of(key, also_prefix=key in prefixes): Kind.FILE for key in below}
    for path in list(paths):
        while b"/" in path:
            path = path.rpartition(b"/")[0]
            paths[path] = Kind.DIRECTORY
    rows = [(*split_path(path), int(kind)) for path, kind in paths.items()]
    return [(b"", b"", int(Kind.DIRECTORY)), *sorted(rows, key=lambda row: row_key(row[0], row[1]))]


@settings(deadline=None)
@given(
    st.sets(KEYS, max_size=25),
    st.integers(1, 30),
    st.integers(1, 3),
    st.integers(1, 6),
    st.sampled_from(["", "a/", "a//", "x"]),
)
@example({"a", "a/b", "a-b/x", "a-b", "a/", "a//b", "a/b/c"}, 2, 1, 1, "")
@example({"x" * 254, "x" * 254 + "/a", "x" * 300, "x" * 300 + "/a", "a"}, 2, 1, 1, "")
@example({"/" * 1024}, 1, 1, 1, "")
@example({"/" * 1024, "a"}, 1, 1, 1, "")
def test_every_key_is_a_row_in_order(keys: set[str], page: int, pages: int, batch: int, prefix: str) -> None:
    prefix = prefix if not prefix or prefix.endswith("/") else prefix + "/"
    with patch.object(s3_listing, "_BATCH_ROWS", batch), patch.object(s3_listing, "_SUBTREE_PAGES", pages):
        assert listed(Bucket(keys, page), prefix) == expected(keys, prefix)


@settings(deadline=None)
@given(
    st.sets(KEYS, max_size=25),
    st.sets(KEYS, max_size=5),
    st.integers(1, 5),
    st.integers(2, 6),
    st.integers(1, 40),
    st.sampled_from(["", "a/"]),
)
@example({"a/b", "a-b/x", "a.b/y", "a/b/c", "a//b", "x" * 300 + "/a", "../a", "b"}, {"a-b"}, 1, 6, 40, "")
@example({"a/a/a", "a/a-b/a", "a/b/a", "a-b/a", "b/a"}, {"a/a/b", "a-"}, 1, 3, 1, "")
def test_shards_one_after_the_other_are_the_whole_listing(
    keys: set[str], later: set[str], page: int, want: int, probes: int, prefix: str
) -> None:
    with (
        patch.object(s3_listing, "_SUBTREE_PAGES", 1),
        patch.object(s3_listing, "_PROBE_PAGES", probes),
        patch.object(s3_listing, "_PARTS_PER_SHARD", 2),
        patch.object(s3_listing, "_BATCH_ROWS", 3),
    ):
        shards = s3_listing.Listing(Bucket(keys, page), prefix, ExcludeRules()).split(want)
        assert 1 <= len(shards) <= want
        assert shards[0].roots == (b"",) and shards[-1].stop_at == ()
        for there in (keys, keys | later, later):  # what comes and goes in between is in exactly one of them
            parts = [listed(Bucket(there, page), prefix, shard=shard) for shard in shards]
            assert [row for part in parts for row in part] == expected(there, prefix)


def test_a_small_bucket_is_not_split_and_a_large_one_evenly() -> None:
    keys = {f"{a:02}/{b:02}/{c}" for a in range(8) for b in range(10) for c in range(25)}
    bucket = Bucket(keys, 1000)
    assert [shard.name for shard in s3_listing.Listing(bucket, "", ExcludeRules()).split(8)] == ["all"]
    bucket = Bucket(keys, 100)
    shards = s3_listing.Listing(bucket, "", ExcludeRules()).split(4)
    assert bucket.requests < 16 + 10, "cut after a look at the upper directories only"
    counts = [len(listed(bucket, shard=shard)) for shard in shards]
    assert sum(counts) == len(expected(keys))
    assert max(counts) < 2 * len(keys) / 4


def test_a_subtree_costs_its_pages_and_a_large_level_a_few_more() -> None:
    small = Bucket({f"{a}/{b}/c" for a in range(20) for b in range(20)}, 100)
    listed(small)
    assert small.requests == 4
    large = Bucket({f"big/{number:04}" for number in range(100)} | {f"s{n}/x/y" for n in range(5)}, 10)
    with patch.object(s3_listing, "_SUBTREE_PAGES", 2):
        listed(large)
    assert large.requests == (2 + 1) + (2 + 10) + 5, "the top, the pages of `big`, each small subtree"


def test_excludes_apply_to_paths() -> None:
    keys = {"keep/a", "keep/b.tmp", "tmp/x", "tmp/y/z", "b.tmp", "b.tmp/c", "big"}
    excludes = ExcludeRules.build(["*.tmp", "/tmp/"])
    for page, batch in ((1, 1), (3, 2), (1000, 1000)):
        with patch.object(s3_listing, "_BATCH_ROWS", batch), patch.object(s3_listing, "_SUBTREE_PAGES", 1):
            names = [join_path(directory, name) for directory, name, _ in listed(Bucket(keys, page), "", excludes)]
        assert names == [b"", b"big", b"keep", b"keep/a"]


def test_large_objects_are_left_out() -> None:
    found = listed(Bucket({"a", "a" * 9, "b/" + "c" * 9}, 1000), "", ExcludeRules.build(larger_than=5))
    assert [name for _, name, _ in found] == [b"", b"a", b"b"]
