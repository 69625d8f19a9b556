"""Frames: the byte table of the format, and that nothing changed, moved or foreign opens."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from moraine.engine.frames import HEADER_SIZE, RAW, TAG_SIZE, ZSTD, Codec, Seal
from moraine.errors import DamagedObject

KEY = bytes(range(32))
PACK = "packs/01ARZ3NDEKTSV4RRFFQ69G5FAV/01ARZ3NDEKTSV4RRFFQ69G5FAW"
TEXT = b"the same words again and again, " * 400


def memory(size: int) -> memoryview:
    return np.empty(size, np.uint8).data


def close(plain: bytes, *, key: bytes = KEY, pack: str = PACK, number: int = 5) -> bytes:
    seal, (codec, content) = Seal(pack, key), Codec().encode(plain)
    target = bytearray(len(content) + seal.overhead + 10)
    length = seal.close_into(memoryview(target), codec, len(plain), number, content)
    assert length == len(content) + seal.overhead
    return bytes(target[:length])


def reopen(frame: bytes, *, key: bytes = KEY, pack: str = PACK) -> bytes:
    return bytes(Codec().open(Seal(pack, key), memoryview(frame), 128, memory).plain)


@pytest.mark.parametrize("key", [KEY, b""])
@pytest.mark.parametrize("plain", [b"", b"x", TEXT, np.random.default_rng(1).bytes(100_000)])
def test_round_trip(plain: bytes, key: bytes) -> None:
    assert reopen(close(plain, key=key), key=key) == plain


def test_bytes_of_an_encrypted_frame() -> None:
    content = b"not compressible"
    frame = close(content, number=5)
    header = b"FR" + bytes([RAW, 0]) + (16).to_bytes(4, "little") + (32).to_bytes(4, "little") + b"\x05\0\0\0"
    assert frame[:HEADER_SIZE] == header
    sealed = AESGCM(KEY).encrypt(bytes(11) + b"\x05", content, b"moraine frame v1" + PACK.encode() + header)
    assert frame[HEADER_SIZE:] == sealed


def test_bytes_of_a_plain_frame() -> None:
    frame = close(b"not compressible", key=b"", number=0xFFFFFFFF)
    assert frame == b"FR\0\0" + b"\x10\0\0\0" * 2 + b"\xff" * 4 + b"not compressible"


def test_compressed_only_where_it_pays() -> None:
    assert close(TEXT)[2] == ZSTD
    assert len(close(TEXT)) < len(TEXT) // 10
    noise = np.random.default_rng(2).bytes(100_000)
    assert close(noise)[2] == RAW
    slightly = noise[:98_000] + bytes(2_000)  # saves less than 3 %
    assert close(slightly)[2] == RAW
    assert len(close(noise)) == len(noise) + HEADER_SIZE + TAG_SIZE


@pytest.mark.parametrize("plain", [TEXT, np.random.default_rng(3).bytes(2_000)])
def test_no_changed_bit_opens(plain: bytes) -> None:
    frame = close(plain)
    for position in [*range(HEADER_SIZE + 8), len(frame) // 2, len(frame) - 1]:
        broken = bytearray(frame)
        broken[position] ^= 0x10
        with pytest.raises(DamagedObject) as caught:
            reopen(bytes(broken))
        assert PACK in str(caught.value)
        assert caught.value.context == {"object": PACK, "offset": 128}


def test_a_frame_opens_in_its_own_pack_only() -> None:
    with pytest.raises(DamagedObject, match="authentication tag"):
        reopen(close(TEXT), pack=PACK[:-1] + "X")
    with pytest.raises(DamagedObject, match="authentication tag"):
        reopen(close(TEXT), key=bytes(32))


@pytest.mark.parametrize("key", [KEY, b""])
@pytest.mark.parametrize("length", [0, 3, HEADER_SIZE, HEADER_SIZE + 5, -1])
def test_no_cut_off_frame_opens(length: int, key: bytes) -> None:
    with pytest.raises(DamagedObject, match="cut off"):
        reopen(close(TEXT, key=key)[:length], key=key)


def test_a_plain_frame_with_wrong_lengths_does_not_open() -> None:
    frame = bytearray(close(TEXT, key=b""))
    frame[4] ^= 1
    with pytest.raises(DamagedObject, match="does not decompress"):
        reopen(bytes(frame), key=b"")
    raw = bytearray(close(b"not compressible", key=b""))
    raw[4] ^= 1
    with pytest.raises(DamagedObject, match="holds 16 bytes, not 17"):
        reopen(bytes(raw), key=b"")


def test_a_huge_plain_length_is_not_believed() -> None:
    frame = bytearray(close(TEXT, key=b""))
    frame[4:8] = b"\xff" * 4
    with pytest.raises(DamagedObject, match="no frame header"):
        reopen(bytes(frame), key=b"")


def test_a_codec_serves_frames_of_all_sizes_one_after_another() -> None:
    codec, seal = Codec(), Seal(PACK, KEY)
    for size in (10, 100_000, 0, 500, 2 << 20):
        plain = TEXT[:size] if size < len(TEXT) else TEXT * (size // len(TEXT))
        assert bytes(codec.open(seal, memoryview(close(plain)), 128, memory).plain) == plain
