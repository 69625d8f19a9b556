"""Packs: header, frames, a trailer that says which chunk lies where, and a footer that finds the trailer.

Owns the byte layout of a pack around its frames (docs/FORMAT.md). It must not know stores, files, or how a pack's key
came to be: the caller gives key and wrapped key, and compressed content.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from moraine.engine.frames import HEADER_SIZE, TAG_SIZE, Buffer, Codec, Seal
from moraine.errors import DamagedObject

PACK_HEADER_SIZE = 128
FOOTER_SIZE = 16
WRAPPED_SIZE = 96
MOST_CHUNKS = 1 << 17  # of one pack, so that a trailer stays small (6 MiB) whatever the size of the files
TRAILER_NUMBER = 0xFFFFFFFF

RECORD = np.dtype([("id", "S32"), ("offset", "<u4"), ("at", "<u4"), ("size", "<u4"), ("length", "<u4")])
Records = npt.NDArray[np.void]

_HEADER = struct.Struct("<8sB7x96s16x")
_FOOTER = struct.Struct("<II8s")
_MAGIC = b"MORPACK1"
_END = b"MORPEND1"


class PackHeader(NamedTuple):
    """What stands before the frames: whether they are encrypted, and the wrapped key."""

    encrypted: bool
    wrapped: bytes  # empty in a plain pack


class Footer(NamedTuple):
    """The last 16 bytes: where the trailer is, and the number of frames before it."""

    trailer: int  # length of the trailer frame
    frames: int


class PackBuffer:
    """Memory for one pack at a time. Unlike a bytearray it takes no page before it is used."""

    def __init__(self, size: int) -> None:
        self.view = np.empty(size, np.uint8).data

    def reserve(self, used: int, more: int) -> None:
        """Make room for `more` bytes behind the `used` ones."""
        if used + more > len(self.view):
            larger = np.empty(used + more, np.uint8).data
            larger[:used] = self.view[:used]
            self.view = larger


class PackBuilder:
    """Assembles one pack in a buffer that the caller owns and may use again afterwards."""

    def __init__(self, pack: str, key: bytes, wrapped: bytes, buffer: PackBuffer) -> None:
        self.pack = pack
        self.wrapped = wrapped
        self.plain_bytes = 0
        self.chunks = 0
        self.size = PACK_HEADER_SIZE
        self._seal = Seal(pack, key)
        self._buffer = buffer
        self._records: list[Records] = []
        buffer.reserve(0, PACK_HEADER_SIZE)
        _HEADER.pack_into(buffer.view, 0, _MAGIC, bool(key), wrapped)

    def final_size(self, content: int = 0, chunks: int = 0) -> int:
        """The most this pack can take once it is finished, after one more frame of `content` compressed bytes."""
        frame = content + self._seal.overhead if chunks else 0
        trailer = (self.chunks + chunks) * RECORD.itemsize + self._seal.overhead
        return self.size + frame + trailer + FOOTER_SIZE

    def add(self, codec: int, plain: int, content: Buffer, ids: Sequence[bytes], sizes: Sequence[int]) -> None:
        """Seal one frame: `plain` bytes as compressed `content`, made of the chunks `ids`, of `sizes`, end to end."""
        records = np.empty(len(ids), RECORD)
        records["id"] = np.frombuffer(b"".join(ids), "S32")
        records["size"] = sizes
        records["at"] = np.cumsum(sizes, dtype=np.uint32) - records["size"]
        records["offset"] = self.size
        records["length"] = self._append(codec, plain, content, len(self._records))
        self._records.append(records)
        self.chunks += len(ids)
        self.plain_bytes += plain

    def finish(self, codec: Codec) -> memoryview:
        """Write trailer and footer; the whole pack, a view of the buffer."""
        table = self.records().tobytes()
        form, content = codec.encode(table)
        length = self._append(form, len(table), content, TRAILER_NUMBER)
        self._buffer.reserve(self.size, FOOTER_SIZE)
        _FOOTER.pack_into(self._buffer.view, self.size, length, len(self._records), _END)
        self.size += FOOTER_SIZE
        return self._buffer.view[: self.size]

    def records(self) -> Records:
        """What lies where so far."""
        return np.concatenate([np.empty(0, RECORD), *self._records])

    def _append(self, codec: int, plain: int, content: Buffer, number: int) -> int:
        self._buffer.reserve(self.size, len(content) + self._seal.overhead)
        length = self._seal.close_into(self._buffer.view[self.size :], codec, plain, number, content)
        self.size += length
        return length


def parse_header(pack: str, data: Buffer) -> PackHeader:
    """The pack's first 128 bytes. Raises DamagedObject."""
    if len(data) >= PACK_HEADER_SIZE:
        magic, suite, wrapped = _HEADER.unpack_from(data)
        if magic == _MAGIC and suite in (0, 1):
            return PackHeader(bool(suite), wrapped if suite else b"")
    raise damaged_pack(pack, "has no pack header")


def parse_footer(pack: str, data: Buffer, size: int) -> Footer:
    """The footer of a pack of `size` bytes; `data` ends with it. Raises DamagedObject."""
    if len(data) >= FOOTER_SIZE:
        trailer, frames, magic = _FOOTER.unpack_from(data, len(data) - FOOTER_SIZE)
        if magic == _END and HEADER_SIZE <= trailer <= size - PACK_HEADER_SIZE - FOOTER_SIZE:
            return Footer(trailer, frames)
    raise damaged_pack(pack, f"does not end ({size} bytes) as a pack does: cut off or overwritten")


def parse_trailer(seal: Seal, codec: Codec, frame: Buffer, footer: Footer, size: int) -> Records:
    """The table of the trailer frame, checked against the pack's size and its frames' number. Raises DamagedObject."""
    offset = size - FOOTER_SIZE - footer.trailer
    header, plain = codec.open(seal, memoryview(frame), offset, lambda length: np.empty(length, np.uint8).data)
    if header.number != TRAILER_NUMBER or header.body + HEADER_SIZE != footer.trailer or header.plain % RECORD.itemsize:
        raise seal.damage(offset, "is no trailer")
    records = np.frombuffer(plain, RECORD)
    starts, first = np.unique(records["offset"].astype(np.int64), return_index=True)
    ends = starts + records["length"][first]
    expected = np.append(starts[1:], offset) if len(starts) else starts
    if len(starts) != footer.frames or (ends != expected).any() or (len(starts) and starts[0] != PACK_HEADER_SIZE):
        raise seal.damage(offset, "is a trailer that does not fit the pack's frames")
    return records


def smallest_trailer(chunks: int) -> int:
    """What `chunks` records take at most, sealed: how much to read from a pack's end."""
    return chunks * RECORD.itemsize + HEADER_SIZE + TAG_SIZE + FOOTER_SIZE


def damaged_pack(pack: str, what: str) -> DamagedObject:
    """The error for a pack as a whole."""
    return DamagedObject(
        f"{pack} {what}", hint="run `moraine check`; restore the pack from a copy of the store", object=pack, offset=0
    )
