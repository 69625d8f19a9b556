"""The chunk index: membership, places, compaction."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable

import pyarrow as pa
import pytest

from moraine.errors import DamagedObject, MissingObject
from moraine.model.log import SegmentRef
from moraine.repository import index_segments, membership
from moraine.repository.index import Index, runs
from moraine.repository.index_segments import COMPACT_AT, compact, compactable, write_segment, write_segments
from moraine.repository.keys import Keyring
from moraine.repository.membership import SortedIds
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
        segments += write_segment(
            [locations(fresh, f"packs/s/{number}")], key=f"index/{number}", store=store, keyring=KEYRING
        )
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
    ids = [base + n.to_bytes(8, "big") + bytes(16) for n in range(1, 600)]
    ids += [b"\x01" * 32, b"\xff" * 32]
    store = MemoryStore()
    index = Index(store, KEYRING, write_segment([locations(ids)], key="index/a", store=store, keyring=KEYRING))
    for start in range(0, len(ids), 100):
        assert all(index.contains(ids[start : start + 100]))
    assert index.contains([base + b"\x09" * 24, base + bytes(24), bytes(32)]) == [False] * 3


def test_segments_hold_one_row_per_id() -> None:
    store = MemoryStore()
    one = RNG.randbytes(32)
    [segment] = write_segment(
        [locations([one]), locations([one], "packs/t/q")], key="index/a", store=store, keyring=KEYRING
    )
    assert segment.rows == 1
    assert write_segment([], key="index/b", store=store, keyring=KEYRING) == []


def test_compaction_keeps_every_chunk_and_makes_few_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_segments, "LARGEST_SEGMENT", 100)
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


def compact_again(store: MemoryStore, segments: list[SegmentRef], name: str) -> list[SegmentRef]:
    merged = compactable(segments)
    numbers = itertools.count()
    added = compact(
        Index(store, KEYRING, segments),
        merged,
        make_key=lambda: f"index/{name}-{next(numbers)}",
        store=store,
        keyring=KEYRING,
    )
    return [segment for segment in segments if segment not in merged] + added


def test_runs_divide_the_ids_and_a_large_run_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_segments, "LARGEST_SEGMENT", 64)
    store = MemoryStore()
    index, ids = fill(store, [100] * COMPACT_AT)
    large = compact_again(store, index.segments, "large")
    spans = [(segment.first, segment.last) for segment in large]
    assert len(spans) > 8 and all(last < first for (_, last), (first, _) in itertools.pairwise(spans))

    more = [RNG.randbytes(32) for _ in range(3 * COMPACT_AT)]
    fresh: list[SegmentRef] = []
    for n in range(COMPACT_AT):
        rows = locations(more[3 * n : 3 * n + 3], f"packs/t/{n}")
        fresh += write_segment([rows], key=f"index/f{n}", store=store, keyring=KEYRING)
    both = compact_again(store, large + fresh, "small")
    assert set(large) < set(both), "48 rows are no reason to rewrite 1,600"
    assert {segment.level for segment in both} == {1, 2}
    assert [len(run) for run in runs(both)] == [len(large), len(both) - len(large)]
    assert all(Index(store, KEYRING, both).contains([*ids, *more]))


def test_every_row_is_rewritten_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_segments, "LARGEST_SEGMENT", 256)
    store = MemoryStore()
    segments: list[SegmentRef] = []
    written = 0
    nights = 400
    for night in range(nights):
        fresh = locations([RNG.randbytes(32) for _ in range(4)], f"packs/{night}/p")
        segments += write_segment([fresh], key=f"index/n{night}", store=store, keyring=KEYRING)
        if compactable(segments):
            before = set(segments)
            segments = compact_again(store, segments, f"c{night}")
            written += sum(segment.rows for segment in segments if segment not in before)
    assert sum(segment.rows for segment in segments) == nights * 4
    assert written < 8 * nights * 4
    assert len(list(runs(segments))) < COMPACT_AT + 6


def test_a_run_larger_than_memory_answers_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "IN_MEMORY", 50)
    monkeypatch.setattr(index_segments, "LARGEST_SEGMENT", 64)
    store = MemoryStore()
    index, ids = fill(store, [40] * COMPACT_AT)
    segments = compact_again(store, index.segments, "c")
    strange = [RNG.randbytes(32) for _ in ids]
    near = [known[:15] + bytes([known[15] ^ 1]) + known[16:] for known in ids]
    for tried in (Index(store, KEYRING, segments), Index(store, KEYRING, segments[::-1])):
        for start in range(0, len(ids), 30):
            part = slice(start, start + 30)
            assert all(tried.contains(ids[part]))
            assert not any(tried.contains(strange[part])) and not any(tried.contains(near[part]))


def test_runs_without_recorded_ranges_are_read_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As earlier versions wrote them: level 1, no first and last id, in any order."""
    monkeypatch.setattr(membership, "IN_MEMORY", 50)
    monkeypatch.setattr(index_segments, "LARGEST_SEGMENT", 64)
    store = MemoryStore()
    index, ids = fill(store, [40] * COMPACT_AT)
    segments = [SegmentRef(s.key, s.digest, s.rows, 1) for s in reversed(compact_again(store, index.segments, "c"))]
    assert all(Index(store, KEYRING, segments).contains(ids))
    fresh = write_segments(
        [locations([RNG.randbytes(32)], "packs/t/q") for _ in range(200)],
        make_key=lambda: f"index/{RNG.randbytes(4).hex()}",
        store=store,
        keyring=KEYRING,
    )
    assert len(fresh) == 4
    merged = compact_again(store, segments + fresh * 4, "d")
    assert all(Index(store, KEYRING, merged).contains(ids))


@pytest.mark.parametrize("kind", [membership.HeldIds, membership.PagedIds])
@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 3000])
def test_ids_that_share_their_beginning_are_told_apart(
    kind: Callable[[list[pa.ChunkedArray]], SortedIds], count: int
) -> None:
    heads = [RNG.randbytes(8) for _ in range(count // 20 + 1)]
    ids = sorted({RNG.choice(heads) + RNG.randbytes(24) for _ in range(count)} | {b"\0" * 32, b"\xff" * 32})
    cut = len(ids) // 3
    run = kind([pa.chunked_array([pa.array(part, pa.binary(32))]) for part in (ids[:cut], ids[cut:])])
    strange = [head + RNG.randbytes(24) for head in heads] + [RNG.randbytes(32) for _ in heads]
    order = RNG.sample(ids + strange, len(ids) + len(strange))
    expected = [one in set(ids) for one in order]
    assert run.contains(*membership.halves(b"".join(order))).tolist() == expected
    assert run.contains(*membership.halves(b"")).tolist() == []
