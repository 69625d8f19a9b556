"""The chunk index: membership, places, compaction."""

from __future__ import annotations

import itertools
import os
import random

import pyarrow as pa
import pytest

from moraine.errors import DamagedObject, MissingObject
from moraine.repository import index as module
from moraine.repository.index import COMPACT_AT, Index, compact, compactable, write_segment
from moraine.repository.keys import Keyring
from moraine.repository.tables import LOCATION
from moraine.stores.memory import MemoryStore

KEYRING = Keyring.create(os.urandom)
RNG = random.Random(1)


def locations(ids: list[bytes], pack: str = "packs/s/p") -> pa.Table:
    rows = [
        {"id": i, "pack": pack, "key": b"k", "offset": n, "length": 10, "at": 0, "size": 5} for n, i in enumerate(ids)
    ]
    arrays = [
        pa.array([row[f.name] for row in rows], f.type.value_type).dictionary_encode().cast(f.type)
        if pa.types.is_dictionary(f.type)
        else pa.array([row[f.name] for row in rows], f.type)
        for f in LOCATION
    ]
    return pa.table(arrays, schema=LOCATION)


def fill(store: MemoryStore, counts: list[int]) -> tuple[Index, list[bytes]]:
    ids: list[bytes] = []
    segments = []
    for number, count in enumerate(counts):
        fresh = [RNG.randbytes(32) for _ in range(count)]
        ids += fresh
        segment = write_segment(
            [locations(fresh, f"packs/s/{number}")], key=f"index/{number}", store=store, keyring=KEYRING
        )
        assert segment
        segments.append(segment)
    return Index(store, KEYRING, segments), ids


def test_contains_and_locate() -> None:
    index, ids = fill(MemoryStore(), [100, 1, 50])
    strange = RNG.randbytes(32)
    near = bytearray(ids[0])
    near[12] ^= 1  # the same first half, another second one
    assert index.contains([ids[0], strange, ids[-1], bytes(near)]) == [True, False, True, False]
    assert index.contains([]) == []
    found = index.locate(pa.array([ids[3], ids[120], ids[3]], pa.binary(32)))
    assert sorted(found["id"].to_pylist()) == sorted([ids[3], ids[120]])
    places = dict(zip(found["id"].to_pylist(), found["pack"].to_pylist(), strict=True))
    assert places[ids[120]] == "packs/s/2"
    with pytest.raises(MissingObject, match="1 chunk"):
        index.locate(pa.array([ids[3], strange], pa.binary(32)))


def test_ids_with_equal_first_halves_are_told_apart() -> None:
    base = b"\x07" * 8
    ids = [base + bytes([n]) * 24 for n in range(1, 6)]
    store = MemoryStore()
    segment = write_segment([locations(ids)], key="index/a", store=store, keyring=KEYRING)
    assert segment
    index = Index(store, KEYRING, [segment])
    assert index.contains([*ids, base + b"\x09" * 24]) == [True] * 5 + [False]


def test_segments_hold_one_row_per_id() -> None:
    store = MemoryStore()
    one = RNG.randbytes(32)
    segment = write_segment(
        [locations([one]), locations([one], "packs/t/q")], key="index/a", store=store, keyring=KEYRING
    )
    assert segment and segment.rows == 1
    assert write_segment([], key="index/b", store=store, keyring=KEYRING) is None


def test_compaction_keeps_every_chunk_and_makes_few_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST_SEGMENT", 100)
    store = MemoryStore()
    index, ids = fill(store, [30] * COMPACT_AT)
    merged = compactable(index.segments)
    assert len(merged) == COMPACT_AT
    numbers = itertools.count()
    added = compact(index, merged, make_key=lambda: f"index/c{next(numbers)}", store=store, keyring=KEYRING)
    assert sum(segment.rows for segment in added) == len(ids)
    assert all(segment.level == 1 and segment.rows < 150 for segment in added)
    compacted = Index(store, KEYRING, added)
    assert all(compacted.contains(ids))
    before = index.locate(pa.array(ids, pa.binary(32))).sort_by("offset")
    after = compacted.locate(pa.array(ids, pa.binary(32)))
    key = lambda table: sorted(zip(*(table[c].to_pylist() for c in LOCATION.names), strict=True))  # noqa: E731
    assert key(before) == key(after)


def test_few_segments_are_left_alone() -> None:
    index, _ = fill(MemoryStore(), [5] * (COMPACT_AT - 1))
    assert compactable(index.segments) == []


def test_a_damaged_or_missing_segment_is_told() -> None:
    store = MemoryStore()
    index, ids = fill(store, [100])
    data = store.get("index/0")
    store.delete("index/0")
    with pytest.raises(MissingObject, match="index/0"):
        index.locate(pa.array(ids[:1], pa.binary(32)))
    for place in range(0, len(data), 97):
        store.put("index/0", data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(DamagedObject, match="index/0"):
            Index(store, KEYRING, index.segments).contains(ids[:1])
        store.delete("index/0")
