"""Names of stored things. Ids are text that sorts by time (ULID), digests and chunk ids are 32 bytes."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
ULID = re.compile(r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$")


def make_ulid(now: datetime, randomness: bytes) -> str:
    """A ULID (github.com/ulid/spec): 48 bits of milliseconds, 80 bits of `randomness`, Crockford base 32."""
    value = int(now.timestamp() * 1000) << 80 | int.from_bytes(randomness[:10], "big")
    return "".join(_ALPHABET[value >> shift & 31] for shift in range(125, -1, -5))


def ulid_time(ulid: str) -> datetime:
    """The instant inside a ULID."""
    value = 0
    for letter in ulid[:10]:
        value = value << 5 | _ALPHABET.index(letter)
    return datetime.fromtimestamp(value / 1000, UTC)
