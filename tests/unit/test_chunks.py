"""Reading chunks back: order, requests, memory, and what is said of chunks that cannot be had."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pytest

from moraine.engine.frames import Codec
from moraine.errors import DamagedObject, KeyUnavailable, MissingObject, StoreUnavailable, TargetFull
from moraine.repository.chunks import Buffers, ChunkReader, Lost, Opened
from moraine.repository.keys import Keyring
from moraine.repository.packs import PackWriter
from moraine.stores.memory import MemoryStore
from test_packing import namer


class CountingStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.ranges: list[tuple[str, int, int]] = []
        self.at_once = 2

    def get_range(self, key: str, start: int, length: int) -> bytes:
        self.ranges.append((key, start, length))
        return super().get_range(key, start, length)


@dataclass
class Written:
    """Bundles of chunks in packs: 4 packs of 6 frames of 5 chunks."""

    keyring: Keyring = field(default_factory=lambda: Keyring.create(os.urandom))
    store: CountingStore = field(default_factory=CountingStore)
    chunks: list[bytes] = field(default_factory=list)
    locations: pa.Table = None

    def __post_init__(self) -> None:
        writer = PackWriter(self.store, self.keyring, name=namer(), entropy=os.urandom, pack_size=32 << 10)
        codec, rng, packs = Codec(), np.random.default_rng(1), []
        for _ in range(4):
            for _ in range(6):
                bundle = [rng.bytes(1000) if i % 2 else bytes([i]) * int(rng.integers(1, 900)) for i in range(5)]
                plain = b"".join(bundle)
                form, content = codec.encode(plain)
                ids = [self.keyring.chunk_id(chunk) for chunk in bundle]
                writer.add(form, len(plain), content, ids, [len(chunk) for chunk in bundle])
                self.chunks += bundle
            packs += writer.drain()
        writer.close()
        self.locations = pa.concat_tables([pack.locations() for pack in packs])

    def reader(self, **options: int) -> ChunkReader:
        return ChunkReader(self.store, self.keyring, **options)

    def break_pack(self, number: int, position: int | None) -> str:
        """Flip a bit of a pack, or remove it; its key."""
        key: str = sorted(set(self.locations["pack"].to_pylist()))[number]
        data = bytearray(self.store.get(key))
        self.store.delete(key)
        if position is not None:
            data[position] ^= 1
            self.store.put(key, data)
        return key


@pytest.fixture
def written() -> Written:
    return Written()


def collect(opened: Iterator[Opened], *, release: bool = True) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for frame in opened:
        for row, at, size in zip(frame.rows.tolist(), frame.at.tolist(), frame.size.tolist(), strict=True):
            assert row not in found
            found[row] = bytes(frame.data[at : at + size])
        if release:
            frame.release()
            frame.release()  # harmless
    return found


@pytest.mark.parametrize("release", [True, False])
def test_everything_comes_back(written: Written, release: bool) -> None:
    found = collect(written.reader().read(written.locations), release=release)
    assert [found[row] for row in range(len(written.chunks))] == written.chunks


def test_plain_repositories_too() -> None:
    written = Written(keyring=Keyring.plain("r"))
    assert len(collect(written.reader().read(written.locations))) == 120


def test_rows_are_those_of_the_table_that_was_asked_for(written: Written) -> None:
    wanted = np.random.default_rng(5).permutation(120)[:40]
    found = collect(written.reader().read(written.locations.take(pa.array(wanted))))
    assert {row: found[row] for row in range(40)} == {row: written.chunks[wanted[row]] for row in range(40)}


def test_a_row_asked_for_twice_comes_twice_from_one_read(written: Written) -> None:
    table = written.locations.take(pa.array([7, 7, 8, 7]))
    found = collect(written.reader().read(table))
    assert found == {0: written.chunks[7], 1: written.chunks[7], 2: written.chunks[8], 3: written.chunks[7]}
    assert len(written.store.ranges) == 1


def test_frames_come_in_order_of_pack_and_offset(written: Written) -> None:
    shuffled = written.locations.take(pa.array(np.random.default_rng(2).permutation(120)))
    places = [(frame.pack, frame.offset) for frame in written.reader().read(shuffled)]
    assert places == sorted(places)
    assert len(places) == len(set(places)) == 24


def test_neighbours_share_a_request(written: Written) -> None:
    collect(written.reader().read(written.locations))
    assert len(written.store.ranges) == 4


def test_distant_frames_do_not(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moraine.repository.read_order.LARGEST_GAP", 100)
    offsets = sorted(set(written.locations["offset"].to_pylist()))
    first = [row for row, offset in enumerate(written.locations["offset"].to_pylist()) if offset == offsets[0]]
    rows = [row for row in range(120) if row not in range(5, 25)]  # frames 1 to 4 of the first pack
    collect(written.reader().read(written.locations.take(pa.array(rows))))
    assert first
    assert len(written.store.ranges) == 5


def test_requests_are_bounded_so_that_every_worker_has_one(written: Written) -> None:
    assert len(collect(written.reader(memory=40_000, workers=2).read(written.locations))) == 120
    assert len(written.store.ranges) > 8
    assert max(length for _, _, length in written.store.ranges) <= 5000  # as much again once it is opened, at the least


def test_little_memory_is_enough(written: Written) -> None:
    assert len(collect(written.reader(memory=1, workers=1).read(written.locations))) == 120


def test_nothing_is_read_for_nothing(written: Written) -> None:
    assert list(written.reader().read(written.locations.slice(0, 0))) == []
    assert written.store.ranges == []


def test_closing_early_ends_the_threads(written: Written) -> None:
    before = threading.active_count()
    reading = written.reader(memory=1).read(written.locations)
    next(reading)
    assert threading.active_count() > before
    reading.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_released_memory_is_used_again() -> None:
    pool = Buffers(200_000)
    first = pool.take(100_000)
    pool.give(first)
    assert pool.take(70_000).obj is first.obj
    assert pool.take(70_000).obj is not first.obj
    kept = [pool.take(100_000) for _ in range(3)]
    for view in kept:
        pool.give(view)
    assert [pool.take(100_000).obj is view.obj for view in kept] == [True, False, False]
    assert len(pool.take(0)) == 0


# --- what cannot be had -----------------------------------------------------------------------------------------------


def test_damage_is_raised_with_its_place(written: Written) -> None:
    key = written.break_pack(1, 200)
    with pytest.raises(DamagedObject, match=f"{key}: the frame at 128") as caught:
        collect(written.reader().read(written.locations))
    assert caught.value.context == {"object": key, "offset": 128}


def test_damage_can_be_noted_and_the_rest_read(written: Written) -> None:
    key = written.break_pack(1, 200)
    lost: list[Lost] = []
    found = collect(written.reader().read(written.locations, lost=lost.append))
    (only,) = lost
    assert written.locations["pack"][int(only.rows[0])].as_py() == key
    assert len(only.rows) == 5
    assert set(found) | set(only.rows.tolist()) == set(range(120))
    assert all(found[row] == written.chunks[row] for row in found)


def test_a_missing_pack_is_noted(written: Written) -> None:
    key = written.break_pack(2, None)
    lost: list[Lost] = []
    found = collect(written.reader().read(written.locations, lost=lost.append))
    assert len(found) == 90
    assert isinstance(lost[0].error, MissingObject)
    assert key in str(lost[0].error)
    with pytest.raises(MissingObject):
        collect(written.reader().read(written.locations))


def test_a_chunk_that_is_not_what_its_id_says_is_lost_alone(written: Written) -> None:
    ids = written.locations["id"].to_pylist()
    ids[3] = bytes(32)
    table = written.locations.set_column(0, written.locations.schema.field("id"), pa.array(ids, pa.binary(32)))
    lost: list[Lost] = []
    found = collect(written.reader().read(table, lost=lost.append))
    assert lost[0].rows.tolist() == [3]
    assert isinstance(lost[0].error, DamagedObject)
    assert set(found) == set(range(120)) - {3}


def test_a_place_outside_its_frame_is_damage(written: Written) -> None:
    sizes = pa.array(np.array([1 << 31, *written.locations["size"].to_pylist()[1:]], np.uint32))
    table = written.locations.set_column(6, written.locations.schema.field("size"), sizes)
    lost: list[Lost] = []
    assert len(collect(written.reader().read(table, lost=lost.append))) == 119
    assert lost[0].rows.tolist() == [0]


def test_a_swapped_pack_does_not_open(written: Written) -> None:
    first, second = sorted(set(written.locations["pack"].to_pylist()))[:2]
    one, two = written.store.get(first), written.store.get(second)
    written.store.delete(first)
    written.store.put(first, two)
    written.store.delete(second)
    written.store.put(second, one)
    lost: list[Lost] = []
    assert len(collect(written.reader().read(written.locations, lost=lost.append))) == 60
    assert all(isinstance(item.error, DamagedObject) for item in lost)


def test_a_host_that_may_only_write_is_told_so(written: Written) -> None:
    full = written.keyring
    blind = Keyring(True, full.id_key, full.metadata_key, full.recipient_id, full.recipient)
    with pytest.raises(KeyUnavailable):
        collect(ChunkReader(written.store, blind).read(written.locations))


def test_store_trouble_is_raised_even_where_losses_are_noted(written: Written) -> None:
    class Down(CountingStore):
        def get_range(self, key: str, start: int, length: int) -> bytes:
            raise StoreUnavailable("no answer")

    with pytest.raises(StoreUnavailable):
        collect(ChunkReader(Down(), written.keyring).read(written.locations, lost=lambda lost: None))


class TestEach:
    """Frames taken by the threads that opened them."""

    @pytest.mark.parametrize("at_once", [2, 8])
    @pytest.mark.parametrize("workers", [1, 2, 5])
    def test_the_same_as_read(self, written: Written, workers: int, at_once: int) -> None:
        written.store.at_once = at_once
        found: dict[int, bytes] = {}
        takers = set()

        def take(opened: Opened) -> None:
            takers.add(threading.get_ident())
            found.update(collect(iter([opened])))

        written.reader(workers=workers).each(written.locations, take)
        assert [found[row] for row in range(len(written.chunks))] == written.chunks
        assert (threading.get_ident() in takers) == (workers == 1)
        assert len(takers) <= workers

    def test_what_is_lost_is_told_and_the_rest_taken(self, written: Written) -> None:
        written.break_pack(0, None)
        written.break_pack(2, 200)
        found: dict[int, bytes] = {}
        lost: list[Lost] = []
        written.reader().each(written.locations, lambda opened: found.update(collect(iter([opened]))), lost=lost.append)
        gone = {row for item in lost for row in item.rows.tolist()}
        assert {type(item.error) for item in lost} == {MissingObject, DamagedObject}
        assert gone | set(found) == set(range(len(written.chunks)))
        assert not gone & set(found)
        assert all(found[row] == written.chunks[row] for row in found)

    @pytest.mark.parametrize("workers", [1, 3])
    def test_nobody_goes_on_when_one_fails(self, written: Written, workers: int) -> None:
        taken: list[int] = []

        def take(opened: Opened) -> None:
            taken.append(opened.offset)
            if len(taken) == 1:
                raise TargetFull("no room")
            time.sleep(0.05)

        with pytest.raises(TargetFull):
            written.reader(workers=workers, memory=1).each(written.locations, take)
        assert len(taken) < 12  # of 24
        assert not any(thread.name.startswith("read") for thread in threading.enumerate())

    def test_trouble_of_a_store_far_away_is_raised(self, written: Written) -> None:
        class Down(CountingStore):
            at_once = 8

            def get_range(self, key: str, start: int, length: int) -> bytes:
                raise StoreUnavailable("no answer")

        with pytest.raises(StoreUnavailable):
            ChunkReader(Down(), written.keyring).each(written.locations, lambda opened: None)
