"""Frames: how plain bytes are compressed and sealed, and opened again.

A frame is a 16-byte header (magic "FR", codec, zero, plain length, body length, frame number, little endian) and a
body. In an encrypted pack the body is AES-256-GCM under the pack's own key; its nonce is the frame number, and the
pack's name and the header are bound as associated data, so a frame opens in its own pack only. See docs/FORMAT.md.
This module must not know what is inside a frame.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from moraine.errors import DamagedObject

Buffer = bytes | bytearray | memoryview

HEADER_SIZE = 16
TAG_SIZE = 16
RAW, ZSTD = 0, 1
LARGEST_PLAIN = 64 << 20  # no writer makes larger frames, so no reader has to believe in one

_HEADER = struct.Struct("<2sBBIII")
_MAGIC = b"FR"
_CONTEXT = b"moraine frame v1"
_WORTH = 0.97  # compressed content must be smaller than this share of the plain, else it is stored raw


class Header(NamedTuple):
    """The 16 bytes before a body; lengths in bytes."""

    codec: int
    plain: int
    body: int
    number: int

    def pack(self) -> bytes:
        """The stored form."""
        return _HEADER.pack(_MAGIC, self.codec, 0, self.plain, self.body, self.number)


class Seal:
    """Seals and opens the frames of one pack: its key and its name. May be shared between threads.

    An empty key is a plain repository's.
    """

    __slots__ = ("_cipher", "_context", "overhead", "pack")

    def __init__(self, pack: str, key: bytes) -> None:
        self.pack = pack
        self._context = _CONTEXT + pack.encode("ascii")
        self._cipher = AESGCM(key) if key else None
        self.overhead = HEADER_SIZE + (TAG_SIZE if key else 0)  # what a frame takes beyond its compressed bytes

    def close_into(self, target: memoryview, codec: int, plain: int, number: int, content: Buffer) -> int:
        """Write the frame of `content` (`plain` bytes once decoded) to the start of `target`; the frame's length."""
        length = len(content) + self.overhead
        header = Header(codec, plain, length - HEADER_SIZE, number).pack()
        target[:HEADER_SIZE] = header
        body = target[HEADER_SIZE:length]
        if self._cipher is None:
            body[:] = content
        else:
            self._cipher.encrypt_into(number.to_bytes(12, "big"), content, self._context + header, body)
        return length

    def content(self, header: Header, frame: memoryview, offset: int, into: memoryview) -> memoryview:
        """The body of a frame that lies at `offset` in the pack: decrypted, still compressed. Raises DamagedObject.

        The bytes are written to `into` where it is large enough (`header.body` bytes always are).
        """
        body = frame[HEADER_SIZE : HEADER_SIZE + header.body]
        if len(body) != header.body:
            raise self.damage(offset, f"is cut off: {len(body)} of {header.body} bytes")
        if self._cipher is None:
            return body
        size = header.body - TAG_SIZE
        if size < 0:
            raise self.damage(offset, "is too short for its authentication tag")
        try:
            context = self._context + bytes(frame[:HEADER_SIZE])
            self._cipher.decrypt_into(header.number.to_bytes(12, "big"), body, context, into[:size])
        except InvalidTag as error:
            raise self.damage(offset, "fails its authentication tag") from error
        return into[:size]

    def header(self, frame: memoryview, offset: int) -> Header:
        """The header of a frame, not authenticated yet. Raises DamagedObject."""
        if len(frame) < HEADER_SIZE:
            raise self.damage(offset, "is cut off in its header")
        magic, codec, zero, plain, body, number = _HEADER.unpack_from(frame)
        if magic != _MAGIC or zero or codec not in (RAW, ZSTD) or plain > LARGEST_PLAIN:
            raise self.damage(offset, "has no frame header")
        return Header(codec, plain, body, number)

    def damage(self, offset: int, what: str) -> DamagedObject:
        """The error for a frame of this pack."""
        return DamagedObject(
            f"{self.pack}: the frame at {offset} {what}",
            hint="run `moraine check`; restore the pack from a copy of the store",
            object=self.pack,
            offset=offset,
        )


class Opened(NamedTuple):
    """A frame's header and plain bytes."""

    header: Header
    plain: memoryview


class Codec:
    """One thread's zstd contexts and scratch memory, used again and again."""

    def __init__(self, level: int = 3) -> None:
        self._compressor = zstandard.ZstdCompressor(level=level, write_content_size=True)
        self._decompressor = zstandard.ZstdDecompressor()
        self._scratch = memoryview(b"")

    def encode(self, plain: Buffer) -> tuple[int, Buffer]:
        """The codec and the bytes to store: raw where compression does not pay."""
        packed = self._compressor.compress(plain)
        return (ZSTD, packed) if len(packed) < len(plain) * _WORTH else (RAW, plain)

    def open(self, seal: Seal, frame: memoryview, offset: int, buffer: Callable[[int], memoryview]) -> Opened:
        """Open and decode one frame into memory from `buffer(size)`. Raises DamagedObject."""
        header = seal.header(frame, offset)
        plain = buffer(header.plain)
        if header.codec == RAW:
            held = header.body + HEADER_SIZE - seal.overhead
            if held != header.plain:
                raise seal.damage(offset, f"holds {held} bytes, not {header.plain}")
            content = seal.content(header, frame, offset, plain)
            if content.obj is not plain.obj:
                plain[:] = content
            return Opened(header, plain)
        if len(self._scratch) < header.body:
            self._scratch = np.empty(header.body, np.uint8).data
        content = seal.content(header, frame, offset, self._scratch)
        if not self._decode(content, plain):
            raise seal.damage(offset, "does not decompress to what its header says")
        return Opened(header, plain)

    def _decode(self, content: memoryview, plain: memoryview) -> bool:
        try:
            # One pass, straight into `plain`: zstd sees from the content size that it fits.
            with self._decompressor.stream_reader(content) as reader:
                return reader.readinto(plain) == len(plain) and not reader.read(1)
        except zstandard.ZstdError:
            return False
