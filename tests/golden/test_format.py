"""docs/FORMAT.md is read here: its vectors must come out of the code, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moraine.engine.digests import file_digest
from moraine.engine.frames import RAW, Codec
from moraine.engine.packing import PackBuffer, PackBuilder, parse_footer, parse_header
from moraine.model.entry import row_key
from moraine.model.xattrs import encode_xattrs
from moraine.repository.documents import read_sealed, write_open, write_sealed
from moraine.repository.keys import Keyring, unwrap_with_passphrase, wrap_for_passphrase

PAGE = Path(__file__).parents[2] / "docs" / "FORMAT.md"


def entropy(size: int) -> bytes:
    """The vectors' random bytes: always 00 01 02 …"""
    return bytes(range(size))


def vectors() -> dict[str, Any]:
    """The JSON block at the end of the page."""
    text = PAGE.read_text(encoding="utf-8").rpartition("```json\n")[2].partition("```")[0]
    found: dict[str, Any] = json.loads(text)
    return found


def computed() -> dict[str, Any]:
    """The same, from the code."""
    keyring = Keyring.create(entropy)
    plain = Keyring.plain("01JZZZZZZZZZZZZZZZZZZZZZZZ")
    slot = wrap_for_passphrase(
        keyring, b"passphrase", slot="SLOT", repository_id="REPO", label="", created_at="", entropy=entropy
    )
    chunks = [keyring.chunk_id(b"hello"), keyring.chunk_id(b"world")]
    pack_key = keyring.new_pack_key(entropy)
    builder = PackBuilder("packs/S/P", pack_key.key, pack_key.wrapped, PackBuffer(1 << 16))
    builder.add(RAW, 10, b"helloworld", chunks, [5, 5])
    return {
        "id_key": keyring.id_key.hex(),
        "metadata_key": keyring.metadata_key.hex(),
        "recipient": keyring.recipient.hex(),
        "plain_id_key": plain.id_key.hex(),
        "plain_metadata_key": plain.metadata_key.hex(),
        "chunk_seed": f"{keyring.chunk_seed:016x}",
        "parquet_key of index/X.parquet": keyring.parquet_key("index/X.parquet").hex(),
        "document_key of snapshots/X.json": keyring.document_key("snapshots/X.json").hex(),
        'open document {"a":1} at log/0': write_open({"a": 1}, key="log/0", keyring=keyring).decode(),
        "slot sealed": slot["sealed"],
        "chunk id of hello": chunks[0].hex(),
        "digest of hello, world": file_digest(chunks, keyring.id_key).hex(),
        "digest of no bytes": file_digest([], keyring.id_key).hex(),
        "wrapped pack key": pack_key.wrapped.hex(),
        "pack packs/S/P of the raw frame helloworld": bytes(builder.finish(Codec())).hex(),
        "row key of a/b, c": row_key(b"a/b", b"c").hex(),
        "xattrs user.b=2, user.a=1": (encode_xattrs({b"user.b": b"2", b"user.a": b"1"}) or b"").hex(),
    }


@pytest.mark.parametrize("name", sorted(computed()))
def test_vector(name: str) -> None:
    assert computed()[name] == vectors()[name]


def test_the_page_has_no_vector_that_is_not_computed() -> None:
    assert set(vectors()) == set(computed())


def test_a_sealed_document_of_the_page_opens() -> None:
    keyring = Keyring.create(entropy)
    data = write_sealed({"a": 1}, key="snapshots/X.json", keyring=keyring, entropy=entropy)
    assert data.startswith(b"MORDOC1\n" + entropy(12))
    assert read_sealed(data, key="snapshots/X.json", keyring=keyring) == {"a": 1}


def test_the_slot_of_the_page_opens_with_its_passphrase() -> None:
    slot = wrap_for_passphrase(
        Keyring.create(entropy),
        b"passphrase",
        slot="SLOT",
        repository_id="REPO",
        label="",
        created_at="",
        entropy=entropy,
    )
    assert slot["sealed"] == vectors()["slot sealed"]
    assert unwrap_with_passphrase(slot, b"passphrase", "REPO") == Keyring.create(entropy)


def test_the_offsets_of_the_page_hold() -> None:
    pack = bytes.fromhex(vectors()["pack packs/S/P of the raw frame helloworld"])
    assert pack[:8] == b"MORPACK1" and pack[8] == 1 and pack[-8:] == b"MORPEND1"
    assert pack[16:112].hex() == vectors()["wrapped pack key"]
    assert pack[128:130] == b"FR" and pack[130] == 0
    assert int.from_bytes(pack[132:136], "little") == 10  # plain length
    assert int.from_bytes(pack[136:140], "little") == 26  # with the tag
    trailer = int.from_bytes(pack[-16:-12], "little")
    assert trailer == 16 + 2 * 48 + 16 == len(pack) - 128 - 42 - 16
    assert parse_header("p", pack[:128]).encrypted
    assert parse_footer("p", pack[-16:], len(pack)).frames == 1
