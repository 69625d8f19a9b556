"""PNG, JPEG and GIF: whole from their first to their last mark, with the checksums that PNG carries.

This proves structure, not pixels: a JPEG or GIF whose picture data were changed in place still passes.
"""

from __future__ import annotations

import mmap
import re
import struct
import zlib
from pathlib import Path

from moraine.proof.look import Look

_PNG = b"\x89PNG\r\n\x1a\n"
_STANDALONE = {0x01, *range(0xD0, 0xD8)}  # JPEG markers without a length
_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")  # ends the coded data of a JPEG


def look_image(path: Path) -> Look:
    """Walk the file's structure to its end."""
    size = path.stat().st_size
    if not size:
        return Look("it is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        head = data[:8]
        walk = _png if head == _PNG else _jpeg if head[:3] == b"\xff\xd8\xff" else _gif if head[:4] == b"GIF8" else None
        if walk is None:
            return Look("its first bytes are those of no PNG, JPEG or GIF")
        try:
            return Look(walk(data))
        except (IndexError, struct.error):
            return Look(f"it is cut off after {size:,} bytes")


def _png(data: mmap.mmap) -> str | None:
    at, kinds = 8, []
    picture = zlib.decompressobj()
    while True:
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        (checksum,) = struct.unpack_from(">I", data, at + 8 + length)
        if zlib.crc32(body, zlib.crc32(kind)) != checksum:
            return f"chunk {kind.decode('latin-1')} at byte {at:,} does not match its checksum"
        if kind == b"IDAT" and not _inflates(picture, body):
            return f"the picture data at byte {at:,} do not decompress"
        kinds.append(kind)
        at += 12 + length
        if kind == b"IEND":
            break
    if kinds[0] != b"IHDR" or b"IDAT" not in kinds:
        return "it has no header or no picture"
    return None if picture.eof else "the picture data end too early"


def _inflates(picture: zlib._Decompress, body: bytes) -> bool:
    try:
        waiting = body
        while waiting:
            picture.decompress(waiting, 1 << 20)
            waiting = picture.unconsumed_tail
    except zlib.error:
        return False
    return True


def _jpeg(data: mmap.mmap) -> str | None:
    at, pictures = 2, 0
    while True:
        if data[at] != 0xFF:
            return f"byte {at:,} should begin a segment and is {data[at]:#04x}"
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if marker == 0xD9:
            return None if pictures else "it holds no picture"
        if marker in _STANDALONE:
            continue
        (length,) = struct.unpack_from(">H", data, at)
        at += length
        if marker == 0xDA:
            pictures += 1
            found = _MARKER.search(data, at)
            if not found:
                return f"it is cut off after {len(data):,} bytes: no end of image"
            at = found.start()


def _gif(data: mmap.mmap) -> str | None:
    flags, at, pictures = data[10], 13, 0
    at += 3 << ((flags & 7) + 1) if flags & 0x80 else 0
    while True:
        mark = data[at]
        if mark == 0x3B:
            return None if pictures else "it holds no picture"
        if mark == 0x2C:
            pictures += 1
            flags = data[at + 9]
            at += 11 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
        elif mark == 0x21:
            at += 2
        else:
            return f"byte {at:,} should begin a block and is {mark:#04x}"
        while length := data[at]:
            at += 1 + length
        at += 1
