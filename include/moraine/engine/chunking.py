"""Where a large file is cut into chunks: a function of its bytes and the repository's parameters alone.

Owns the choice of a cutter by a file's first bytes and the cutters themselves. Names play no part, so a renamed file
keeps its cuts, equal contents have equal digests, and a re-read can be compared with what is stored. It must not know
where bytes come from or go to.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pyfastcdc import FastCDC

HEAD = 520  # first bytes that `choose` looks at: up to the GPT signature in the second sector

_LAKE: tuple[tuple[int, bytes], ...] = (
    (0, b"PAR1"),  # Parquet
    (0, b"PARE"),  # Parquet with an encrypted footer
    (0, b"ORC"),
    (0, b"Obj\x01"),  # Avro container
    (0, b"ARROW1"),
    (0, b"\x1f\x8b"),  # gzip
    (0, b"\x28\xb5\x2f\xfd"),  # zstd
    (0, b"\xfd7zXZ\x00"),
    (0, b"BZh"),
    (0, b"7z\xbc\xaf\x27\x1c"),
    (0, b"PK\x03\x04"),  # zip, and the office and Java formats made of it
    (0, b"\xff\xd8\xff"),  # JPEG
    (0, b"\x89PNG\r\n\x1a\n"),
    (0, b"GIF8"),
    (0, b"\x1a\x45\xdf\xa3"),  # Matroska, WebM
    (0, b"OggS"),
    (0, b"fLaC"),
    (4, b"ftyp"),  # MP4, QuickTime, HEIF
    (8, b"WEBP"),
)
_DISK: tuple[tuple[int, bytes], ...] = (
    (0, b"QFI\xfb"),  # qcow2
    (0, b"KDMV"),  # VMDK
    (0, b"vhdxfile"),
    (64, b"\x7f\x10\xda\xbe"),  # VDI
    (510, b"\x55\xaa"),  # boot sector of a raw image
    (512, b"EFI PART"),
)


class Cutter(Protocol):
    """Cuts one file, given piece by piece."""

    span: int  # bytes a caller should gather before it calls `cut`; at least the longest chunk

    def cut(self, data: memoryview, last: bool) -> list[int]:
        """End offsets of the chunks in `data`, which begins at a cut. What is left must lead the next call's data.

        With `last` the file ends with `data`, so nothing is left.
        """


class FixedCutter:
    """Equal pieces: for disk images, written over in place, and for immutable files, equal as a whole or not at all."""

    def __init__(self, size: int, span: int) -> None:
        self._size = size
        self.span = max(size, span // size * size)

    def cut(self, data: memoryview, last: bool) -> list[int]:
        """Every `size` bytes."""
        ends = list(range(self._size, len(data) + 1, self._size))
        if last and len(data) % self._size:
            ends.append(len(data))
        return ends


class ContentCutter:
    """FastCDC with normalisation 1 and a secret gear table: boundaries move with the content."""

    def __init__(self, *, minimum: int, average: int, maximum: int, seed: int, span: int) -> None:
        self._average, self._minimum, self._maximum = average, minimum, maximum
        self._seed = seed & (1 << 63) - 1  # pyfastcdc 0.3.1 overflows on the 64th bit
        self.span = max(span, maximum)

    @cached_property
    def _chunker(self) -> FastCDC:
        from pyfastcdc import FastCDC  # a run that cuts no file this way does without

        return FastCDC(
            self._average, min_size=self._minimum, max_size=self._maximum, normalized_chunking=1, seed=self._seed
        )

    def cut(self, data: memoryview, last: bool) -> list[int]:
        """Content-defined ends. The end of `data` is none unless the file or the longest chunk ends there."""
        pieces = [(piece.offset, piece.length) for piece in self._chunker.cut_buf(data)] if data else []
        if pieces and not last and pieces[-1][1] < self._maximum:
            pieces.pop()
        return [offset + length for offset, length in pieces]


class Chunking:
    """The cutters of one repository. Not shared between threads."""

    def __init__(
        self,
        *,
        minimum: int,
        average: int,
        maximum: int,
        fixed_disk: int,
        fixed_lake: int,
        seed: int,
        span: int = 8 << 20,
    ) -> None:
        self._content = ContentCutter(minimum=minimum, average=average, maximum=maximum, seed=seed, span=span)
        self._disk = FixedCutter(fixed_disk, span)
        self._lake = FixedCutter(fixed_lake, span)
        self.first_span = self._content.span  # what to read before `choose`
        self.span = max(cutter.span for cutter in (self._content, self._disk, self._lake))

    def choose(self, head: memoryview) -> Cutter:
        """The cutter for a file that begins with `head` (its first `HEAD` bytes, or all of a shorter file)."""
        start = bytes(head[:HEAD])
        if _matches(start, _LAKE):
            return self._lake
        if _matches(start, _DISK):
            return self._disk
        return self._content


def _matches(head: bytes, marks: tuple[tuple[int, bytes], ...]) -> bool:
    return any(head.startswith(mark, offset) for offset, mark in marks)
