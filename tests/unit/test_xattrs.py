"""The stored form of extended attributes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moraine.errors import DamagedObject
from moraine.model.xattrs import decode_xattrs, encode_xattrs


def test_bytes_are_as_documented() -> None:
    stored = encode_xattrs({b"user.b": b"\xff", b"user.a": b""})
    assert stored == b"\x06\0\0\0user.a\0\0\0\0\x06\0\0\0user.b\x01\0\0\0\xff"


def test_no_attributes_are_none() -> None:
    assert encode_xattrs({}) is None
    assert decode_xattrs(None) == {}


@given(st.dictionaries(st.binary(min_size=1, max_size=40), st.binary(max_size=80), min_size=1, max_size=8))
def test_round_trip_whatever_the_order(attributes: dict[bytes, bytes]) -> None:
    stored = encode_xattrs(attributes)
    assert stored == encode_xattrs(dict(reversed(attributes.items())))
    assert decode_xattrs(stored) == attributes
    assert list(decode_xattrs(stored)) == sorted(attributes)


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"\x01",
        b"\x01\0\0\0",
        b"\x01\0\0\0a",  # a name without a value
        b"\x01\0\0\0a\x05\0\0\0b",  # a value cut off
        b"\xff\xff\xff\xffa",
        b"\0\0\0\0\x01\0\0\0v",  # an empty name
        b"\x01\0\0\0b\0\0\0\0\x01\0\0\0a\0\0\0\0",  # out of order
        b"\x01\0\0\0a\0\0\0\0\x01\0\0\0a\0\0\0\0",  # twice
    ],
)
def test_malformed_bytes_are_damage(stored: bytes) -> None:
    with pytest.raises(DamagedObject, match="extended attributes are malformed") as caught:
        decode_xattrs(stored)
    assert caught.value.hint


@given(st.binary(max_size=60))
def test_what_decodes_is_canonical(stored: bytes) -> None:
    try:
        attributes = decode_xattrs(stored)
    except DamagedObject:
        return
    assert encode_xattrs(attributes) == stored
