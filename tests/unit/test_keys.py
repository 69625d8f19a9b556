"""The key tree and the documents sealed by it."""

from __future__ import annotations

import random

import pytest

from moraine.errors import DamagedObject, ForgedObject, KeyUnavailable
from moraine.repository.documents import read_open, write_open
from moraine.repository.keys import WRAPPED_SIZE, Keyring
from moraine.repository.sealed_documents import read_sealed, write_sealed


@pytest.fixture
def keyring() -> Keyring:
    return Keyring.create(random.Random(1).randbytes)


def test_pack_keys_come_back_and_never_repeat(keyring: Keyring) -> None:
    entropy = random.Random(3).randbytes
    made = [keyring.new_pack_key(entropy) for _ in range(20)]
    assert len({pack.key for pack in made}) == 20
    for pack in made:
        assert len(pack.wrapped) == WRAPPED_SIZE
        assert keyring.open_pack_key(pack.wrapped) == pack.key


def test_every_flipped_byte_of_a_wrapped_key_is_told(keyring: Keyring) -> None:
    wrapped = keyring.new_pack_key(random.Random(3).randbytes).wrapped
    for place in range(len(wrapped)):
        with pytest.raises((DamagedObject, KeyUnavailable)):
            keyring.open_pack_key(wrapped[:place] + bytes([wrapped[place] ^ 128]) + wrapped[place + 1 :])


def test_a_writer_without_private_key_can_seal_but_not_open(keyring: Keyring) -> None:
    writer = Keyring(True, keyring.id_key, keyring.metadata_key, keyring.recipient_id, keyring.recipient)
    pack = writer.new_pack_key(random.Random(4).randbytes)
    assert keyring.open_pack_key(pack.wrapped) == pack.key
    assert writer.chunk_id(b"x") == keyring.chunk_id(b"x")
    with pytest.raises(KeyUnavailable, match="cannot read"):
        writer.open_pack_key(pack.wrapped)


def test_two_repositories_share_no_id(keyring: Keyring) -> None:
    other = Keyring.create(random.Random(9).randbytes)
    assert other.chunk_id(b"content") != keyring.chunk_id(b"content")
    assert other.chunk_seed != keyring.chunk_seed


def test_keys_do_not_show_in_their_printed_form(keyring: Keyring) -> None:
    private = next(iter(keyring.private_keys.values()))
    assert private.hex() not in repr(keyring) and repr(private) not in repr(keyring)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("sealed", [False, True])
def test_every_flipped_byte_swap_and_cut_of_a_document_is_told(keyring: Keyring, plain: bool, sealed: bool) -> None:
    keys = Keyring.plain("id") if plain else keyring
    content = {"b": [1, "ü", None], "a": {"x": 1.5}}

    def write(key: str) -> bytes:
        if sealed:
            return write_sealed(content, key=key, keyring=keys, entropy=random.Random(5).randbytes)
        return write_open(content, key=key, keyring=keys)

    def read(data: bytes, key: str = "here") -> object:
        if sealed:
            return read_sealed(data, key=key, keyring=keys)
        return read_open(data, key=key, keyring=keys)

    data = write("here")
    assert read(data) == content
    for place in range(len(data)):
        with pytest.raises((DamagedObject, ForgedObject)):
            read(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
    for length in range(len(data)):
        with pytest.raises((DamagedObject, ForgedObject)):
            read(data[:length])
    with pytest.raises(ForgedObject):
        read(write("there"))


def test_somebody_without_the_keys_cannot_forge_a_document(keyring: Keyring) -> None:
    forger = Keyring.create(random.Random(8).randbytes)
    with pytest.raises(ForgedObject, match="keys"):
        read_open(write_open({}, key="log/0", keyring=forger), key="log/0", keyring=keyring)
    data = write_sealed({}, key="s", keyring=forger, entropy=random.Random(5).randbytes)
    with pytest.raises(ForgedObject):
        read_sealed(data, key="s", keyring=keyring)
