"""Canonical bytes of extended attributes, as rows hold them. Knows no file system.

Sorted by name, for each attribute: length of the name (u32, little endian), name, length of the value (u32), value.
Equal attributes have equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct

from moraine.errors import DamagedObject

_LENGTH = Struct("<I")


def encode_xattrs(attributes: Mapping[bytes, bytes]) -> bytes | None:
    """The stored form; None when there are no attributes."""
    if not attributes:
        return None
    out = bytearray()
    for name in sorted(attributes):
        for part in (name, attributes[name]):
            out += _LENGTH.pack(len(part))
            out += part
    return bytes(out)


def decode_xattrs(stored: bytes | None) -> dict[bytes, bytes]:
    """The attributes again, in order of their names.

    Raises:
        DamagedObject: the bytes are not what `encode_xattrs` makes.
    """
    parts = list(_parts(stored)) if stored is not None else []
    names = parts[0::2]
    if len(parts) % 2 or stored == b"" or b"" in names or sorted(set(names)) != names:
        raise _damaged("names and values do not pair up in order")
    return dict(zip(names, parts[1::2], strict=True))


def _parts(stored: bytes) -> list[bytes]:
    parts, at = [], 0
    while at < len(stored):
        if at + _LENGTH.size > len(stored):
            raise _damaged(f"a length is cut off at byte {at}")
        (length,) = _LENGTH.unpack_from(stored, at)
        at += _LENGTH.size
        if at + length > len(stored):
            raise _damaged(f"{length} bytes announced at byte {at}, {len(stored) - at} are there")
        parts.append(stored[at : at + length])
        at += length
    return parts


def _damaged(reason: str) -> DamagedObject:
    return DamagedObject(
        f"stored extended attributes are malformed: {reason}",
        hint="run `moraine check` to see what else of the manifest is damaged",
    )
