"""Where a sparse file holds data. Knows SEEK_DATA and SEEK_HOLE, nothing of rows."""

from __future__ import annotations

import errno
import os

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
