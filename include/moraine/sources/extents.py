"""Where a sparse file holds data: found by SEEK_DATA and SEEK_HOLE, and read from what a row keeps of it."""

from __future__ import annotations

import errno
import os
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from struct import iter_unpack

from moraine.errors import DamagedObject

LIMIT = 1 << 16  # extents of one file; beyond that small holes count as data, so that a row stays small


def find_extents(fd: int, size: int, limit: int = LIMIT) -> list[tuple[int, int]] | None:
    """(offset, length) of the parts of an open file that hold data, up to `size`; None when it has no holes."""
    found: list[tuple[int, int]] = []
    smallest_hole = 1
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                break
            if error.errno == errno.EINVAL:  # this file system cannot tell
                return None
            raise
        if start >= size:
            break
        end = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        found.append((start, end - start))
        while len(found) > limit:
            smallest_hole *= 2
            found = _without_small_holes(found, smallest_hole)
    return None if found == [(0, size)] else found


def _without_small_holes(extents: list[tuple[int, int]], smallest: int) -> list[tuple[int, int]]:
    merged = extents[:1]
    for start, length in extents[1:]:
        last, used = merged[-1]
        if start - last - used < smallest:
            merged[-1] = (last, start + length - last)
        else:
            merged.append((start, length))
    return merged


class Extents:
    """Where the stored bytes of a sparse file go. Raises DamagedObject when they are no extents of a file of `size`."""

    def __init__(self, stored: bytes, size: int, path: bytes) -> None:
        self._path = path
        if len(stored) % 16:
            raise self._damage()
        pairs = list(iter_unpack("<qq", stored))
        self._offsets = [offset for offset, _ in pairs]
        lengths = [length for _, length in pairs]
        ends = [offset + length for offset, length in pairs]
        self._starts = [0, *accumulate(lengths)]
        apart = all(end <= start for end, start in zip([0, *ends], [*self._offsets, size], strict=True))
        if not apart or min(lengths, default=1) <= 0:
            raise self._damage()

    def pieces(self, at: int, data: memoryview) -> Iterator[tuple[int, memoryview]]:
        """(offset in the file, bytes) for stored bytes that start at `at`."""
        if at + len(data) > self._starts[-1]:
            raise self._damage()
        number = bisect_right(self._starts, at) - 1
        while data:
            room = self._starts[number + 1] - at
            yield self._offsets[number] + at - self._starts[number], data[:room]
            at, data, number = at + room, data[room:], number + 1

    def within(self, start: int, end: int) -> int:
        """How many bytes from `start` up to `end` of the file are data."""
        return self._before(end) - self._before(start)

    def _before(self, at: int) -> int:
        number = bisect_right(self._offsets, at) - 1
        return 0 if number < 0 else min(self._starts[number] + at - self._offsets[number], self._starts[number + 1])

    def _damage(self) -> DamagedObject:
        return DamagedObject("the list of holes does not fit the file", hint="run `moraine check`", path=self._path)
