"""The digest of a file's content, computed anew from a restored copy.

A second implementation on purpose: it shares no code with the steps that copied or restored the file.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from blake3 import blake3

from moraine.errors import DamagedObject

ReadAt = Callable[[int, memoryview], int]  # offset, buffer → bytes filled; fewer only at the end of the file

_BLOCK = 1 << 20


def stored_spans(size: int, extents: bytes | None) -> list[tuple[int, int]]:
    """(offset, length) of the parts of a file that are stored: all of it, or the extents of a sparse one."""
    if extents is None:
        return [(0, size)] if size else []
    return [(offset, length) for offset, length in struct.iter_unpack("<qq", extents) if length]


def content_digest(
    read_at: ReadAt, spans: Sequence[tuple[int, int]], chunk_sizes: Sequence[int], *, id_key: bytes
) -> bytes:
    """The digest by the rules of docs/FORMAT.md, of content cut into chunks of these sizes; empty if it ends early.

    Raises:
        DamagedObject: the chunks do not add up to the stored parts.
    """
    if sum(chunk_sizes) != sum(length for _, length in spans):
        raise DamagedObject("the chunks do not add up to the file's stored size", hint="run `moraine check`")
    hashers = [blake3(key=id_key) for _ in chunk_sizes]
    buffer = memoryview(bytearray(_BLOCK))
    number, left = 0, chunk_sizes[0] if chunk_sizes else 0
    for offset, length in spans:
        end = offset + length
        while offset < end:
            piece = buffer[: min(_BLOCK, end - offset, left)]
            got = read_at(offset, piece)
            if got < len(piece):
                return b""
            hashers[number].update(piece)
            offset, left = offset + got, left - got
            if not left and number + 1 < len(chunk_sizes):
                number, left = number + 1, chunk_sizes[number + 1]
    ids = [hasher.digest() for hasher in hashers]
    if len(ids) == 1:
        return ids[0]
    return blake3(b"moraine digest v1" + b"".join(ids) if ids else b"", key=id_key).digest()
