"""docs/FORMAT.md is read here: its vectors must come out of the code, byte for byte."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from moraine.engine.digests import file_digest
from moraine.engine.frames import RAW, Codec
from moraine.engine.packing import PackBuffer, PackBuilder, parse_footer, parse_header
from moraine.model.entry import row_key
from moraine.model.xattrs import encode_xattrs
from moraine.repository.documents import write_open
from moraine.repository.key_slots import generate_key, make_slot, open_slots
from moraine.repository.keys import Keyring
from moraine.repository.sealed_documents import read_sealed, write_sealed

PAGE = Path(__file__).parents[2] / "docs" / "FORMAT.md"


def entropy(size: int) -> bytes:
    """The vectors' random bytes: always 00 01 02 …"""
    return bytes(range(size))


def vectors() -> dict[str, Any]:
    """The JSON block at the end of the page."""
    text = PAGE.read_text(encoding="utf-8").rpartition("```json\n")[2].partition("```")[0]
    found: dict[str, Any] = json.loads(text)
    return found


def slot(secret: bytes) -> dict[str, Any]:
    """A slot that opens with a secret."""
    where = {"slot": "SLOT", "repository_id": "REPO"}
    return make_slot(Keyring.create(entropy), secret, **where, label="", created_at="", entropy=entropy)


def computed() -> dict[str, Any]:
    """The same, from the code."""
    keyring = Keyring.create(entropy)
    plain = Keyring.plain("01JZZZZZZZZZZZZZZZZZZZZZZZ")
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
        "slot sealed": slot(b"passphrase")["sealed"],
        "generated key": generate_key(entropy),
        "slot sealed of the generated key": slot(generate_key(entropy).encode())["sealed"],
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


@pytest.mark.parametrize(
    ("name", "secret"),
    [("slot sealed", b"passphrase"), ("slot sealed of the generated key", vectors()["generated key"].encode())],
)
def test_the_slots_of_the_page_open_with_their_secrets(name: str, secret: bytes) -> None:
    read = slot(secret) | {"sealed": vectors()[name]}
    assert open_slots([read], secret, "REPO") == Keyring.create(entropy)


def test_a_reader_written_from_the_page_opens_a_generated_keys_slot() -> None:
    key = bytes.fromhex(vectors()["generated key"].split("-")[3])
    slot_key = blake3(key + entropy(16), derive_key_context="moraine v1 generated key slot").digest()
    sealed = b64decode(vectors()["slot sealed of the generated key"])
    bundle = AESGCM(slot_key).decrypt(sealed[:12], sealed[12:], b"moraine v1 slot REPO SLOT")
    assert json.loads(bundle)["id_key"] == vectors()["id_key"]
    checksum = blake3(key, derive_key_context="moraine v1 generated key checksum").digest()
    assert vectors()["generated key"] == f"moraine-key-1-{key.hex()}-{checksum[:4].hex()}"


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
