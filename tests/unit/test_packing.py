"""Packs: built in reused memory, found again from their end, and read from a store."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from moraine.engine.frames import Codec, Seal
from moraine.engine.packing import (
    FOOTER_SIZE,
    PACK_HEADER_SIZE,
    RECORD,
    PackBuffer,
    PackBuilder,
    Records,
    parse_footer,
    parse_header,
    parse_trailer,
)
from moraine.errors import DamagedObject, KeyUnavailable, MissingObject, StoreFull
from moraine.model.ids import make_ulid
from moraine.repository.keys import Keyring
from moraine.repository.packs import PackWriter, read_trailer
from moraine.repository.tables import LOCATION
from moraine.stores.base import Buffer
from moraine.stores.memory import MemoryStore

KEY = bytes(range(32))
PACK = "packs/A/B"


def ids(*numbers: int) -> list[bytes]:
    """Ids that end in zero bytes, which no part of the way may drop."""
    return [bytes([number]) + bytes(31) for number in numbers]


def build(buffer: PackBuffer, *, key: bytes = KEY, pack: str = PACK) -> bytes:
    builder = PackBuilder(pack, key, bytes([7]) * 96 if key else b"", buffer)
    builder.add(0, 30, b"a" * 30, ids(1, 2, 3), [10, 0, 20])
    builder.add(0, 5, b"b" * 5, ids(4), [5])
    bound = builder.final_size()
    data = bytes(builder.finish(Codec()))
    assert len(data) <= bound
    return data


def parse(data: bytes, *, key: bytes = KEY, pack: str = PACK) -> Records:
    footer = parse_footer(pack, data, len(data))
    frame = data[len(data) - FOOTER_SIZE - footer.trailer : len(data) - FOOTER_SIZE]
    return parse_trailer(Seal(pack, key), Codec(), frame, footer, len(data))


@pytest.mark.parametrize("key", [KEY, b""])
@pytest.mark.parametrize("room", [0, 200, 1 << 16])
def test_round_trip(key: bytes, room: int) -> None:
    data = build(PackBuffer(room), key=key)
    header = parse_header(PACK, data)
    assert header.encrypted == bool(key)
    assert header.wrapped == (bytes([7]) * 96 if key else b"")
    records = parse(data, key=key)
    first, second = PACK_HEADER_SIZE, PACK_HEADER_SIZE + 30 + 16 + (16 if key else 0)
    assert records.tobytes()[:32] == ids(1)[0]
    assert records["offset"].tolist() == [first, first, first, second]
    assert records["at"].tolist() == [0, 10, 10, 0]
    assert records["size"].tolist() == [10, 0, 20, 5]
    assert records["length"].tolist() == [second - first] * 3 + [second - first - 25]


def test_layout_of_a_plain_pack() -> None:
    data = build(PackBuffer(0), key=b"")
    assert data[:16] == b"MORPACK1" + bytes(8)
    assert data[16:128] == bytes(112)
    assert data[128:144] == b"FR\0\0" + b"\x1e\0\0\0" * 2 + bytes(4)
    assert data[-8:] == b"MORPEND1"
    assert data[-12:-8] == b"\x02\0\0\0"
    assert RECORD.itemsize == 48


def test_memory_is_used_again() -> None:
    buffer = PackBuffer(1 << 16)
    first = build(buffer)
    assert build(buffer) == first


@pytest.mark.parametrize("cut", [1, 8, FOOTER_SIZE, 40, 200])
def test_no_cut_off_pack_parses(cut: int) -> None:
    with pytest.raises(DamagedObject):
        parse(build(PackBuffer(0))[:-cut])


def test_no_swapped_pack_parses() -> None:
    data = build(PackBuffer(0))
    with pytest.raises(DamagedObject, match="authentication tag"):
        parse(data, pack="packs/A/C")


def test_a_trailer_must_fit_the_frames() -> None:
    data = build(PackBuffer(0))
    footer = data[-FOOTER_SIZE:]
    fewer = data[:-FOOTER_SIZE] + footer[:4] + b"\x01\0\0\0" + footer[8:]
    with pytest.raises(DamagedObject, match="does not fit"):
        parse(fewer)
    more = data[:PACK_HEADER_SIZE] + bytes(9) + data[PACK_HEADER_SIZE:]
    with pytest.raises(DamagedObject, match="does not fit"):
        parse(more)


@pytest.mark.parametrize("data", [b"", b"MORPACK1", b"MORPACK2" + bytes(120), b"MORPACK1\x09" + bytes(119)])
def test_no_other_header_parses(data: bytes) -> None:
    with pytest.raises(DamagedObject, match="no pack header"):
        parse_header(PACK, data)


# --- in a store -------------------------------------------------------------------------------------------------------


def namer() -> Callable[[], str]:
    return lambda: "packs/S/" + make_ulid(datetime(2026, 1, 1, tzinfo=UTC), os.urandom(10))


def write(store: MemoryStore, keyring: Keyring, frames: int = 10, size: int = 1000, pack_size: int = 4096) -> pa.Table:
    writer = PackWriter(store, keyring, name=namer(), entropy=os.urandom, pack_size=pack_size)
    try:
        for number in range(frames):
            content = np.random.default_rng(number).bytes(size)
            writer.add(0, size, content, [keyring.chunk_id(content)], [size])
        packs = writer.drain()
        assert [pack.size for pack in packs] == [store.head(pack.key).size for pack in packs]
        assert sum(pack.plain for pack in packs) == frames * size
        return pa.concat_tables([LOCATION.empty_table(), *(pack.locations() for pack in packs)])
    finally:
        writer.close()


@pytest.fixture(params=["encrypted", "plain"])
def keyring(request: pytest.FixtureRequest) -> Keyring:
    return Keyring.create(os.urandom) if request.param == "encrypted" else Keyring.plain("repository")


def test_packs_do_not_grow_over_their_size_and_tell_what_they_hold(keyring: Keyring) -> None:
    store = MemoryStore()
    locations = write(store, keyring)
    infos = list(store.list("packs/"))
    assert len(infos) == 4
    assert max(info.size for info in infos) <= 4096
    read = pa.concat_tables([read_trailer(store, keyring, info.key, info.size) for info in infos])
    assert as_rows(read) == as_rows(locations)


def test_a_frame_larger_than_a_pack_gets_its_own(keyring: Keyring) -> None:
    store = MemoryStore()
    write(store, keyring, frames=3, size=9000)
    assert [info.size > 9000 for info in store.list("packs/")] == [True] * 3


def test_nothing_written_leaves_nothing() -> None:
    store = MemoryStore()
    assert write(store, Keyring.plain("r"), frames=0).num_rows == 0
    assert list(store.list("")) == []


def test_each_pack_has_a_key_of_its_own() -> None:
    store = MemoryStore()
    locations = write(store, Keyring.create(os.urandom))
    assert len(set(locations["key"].to_pylist())) == len(set(locations["pack"].to_pylist())) == 4


def test_a_long_trailer_is_read_whole(keyring: Keyring) -> None:
    store = MemoryStore()
    writer = PackWriter(store, keyring, name=namer(), entropy=os.urandom)
    numbers = [keyring.chunk_id(str(number).encode()) for number in range(5000)]
    writer.add(0, 5000, bytes(5000), numbers, [1] * 5000)
    (pack,) = writer.drain()
    writer.close()
    assert read_trailer(store, keyring, pack.key, pack.size)["id"].to_pylist() == numbers


def test_read_trailer_refuses_what_is_not_the_pack(keyring: Keyring) -> None:
    store = MemoryStore()
    write(store, keyring, frames=2, pack_size=1 << 20)
    (info,) = store.list("packs/")
    data = store.get(info.key)
    with pytest.raises(DamagedObject):
        read_trailer(store, keyring, info.key, info.size - 1)
    store.put("packs/S/short", data[:-100])
    with pytest.raises(DamagedObject):
        read_trailer(store, keyring, "packs/S/short", info.size)
    with pytest.raises(DamagedObject):
        read_trailer(store, keyring, "packs/S/short", info.size - 100)
    with pytest.raises(MissingObject):
        read_trailer(store, keyring, "packs/S/none", info.size)
    if keyring.encrypted:
        store.put("packs/S/swapped", data)
        with pytest.raises(DamagedObject, match="authentication tag"):
            read_trailer(store, keyring, "packs/S/swapped", info.size)


def test_a_host_that_may_only_write_cannot_read_a_trailer() -> None:
    keyring = Keyring.create(os.urandom)
    store = MemoryStore()
    write(store, keyring, frames=1)
    (info,) = store.list("packs/")
    blind = Keyring(True, keyring.id_key, keyring.metadata_key, keyring.recipient_id, keyring.recipient)
    with pytest.raises(KeyUnavailable):
        read_trailer(store, blind, info.key, info.size)


class FullStore(MemoryStore):
    def put(self, key: str, data: Buffer) -> None:
        raise StoreFull("no space left")


def test_a_failed_upload_is_raised_and_never_waited_for() -> None:
    with pytest.raises(StoreFull):
        write(FullStore(), Keyring.plain("r"), frames=1000)
    with pytest.raises(StoreFull):
        write(FullStore(), Keyring.plain("r"), frames=1)


def as_rows(table: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_pylist()
    return sorted(rows, key=lambda row: (row["pack"], row["offset"]))
