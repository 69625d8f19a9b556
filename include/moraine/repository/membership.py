"""Which chunk ids an index knows: 16 bytes of each, sorted, in memory or in a temporary file.

Ids are keyed hashes, so two that are both written never share their first 16 bytes. A run larger than `IN_MEMORY` lies
in an anonymous file, in pages whose first ids are kept apart, so a lookup reads one page. The kernel may drop pages at
any time: at 10⁸ ids and more, what stays in memory is one number a page.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

IN_MEMORY = 1 << 21  # ids of a run that stay in memory: 32 MiB
_PAGE = 256  # ids: 4 KiB
_TOGETHER = 1024  # ids looked up together: each has its page copied
_END = np.uint64(0xFFFFFFFFFFFFFFFF)  # fills the last page; no id that is looked for has it twice

Words = npt.NDArray[np.uint64]
Found = npt.NDArray[np.bool_]


class SortedIds(Protocol):
    """A run of distinct ids, which are looked up by their two halves."""

    def contains(self, high: Words, low: Words) -> Found:
        """For each id whether it is in the run."""


def sorted_ids(parts: Iterable[pa.ChunkedArray], rows: int) -> SortedIds:
    """A run of `rows` ids in ascending order, given in parts that follow each other."""
    return HeldIds(parts) if rows <= IN_MEMORY else PagedIds(parts)


class HeldIds:
    """A run in memory."""

    def __init__(self, parts: Iterable[pa.ChunkedArray]) -> None:
        high, low = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
        for part in parts:
            for words in _words(part):
                high.append(words[:, 0].astype(np.uint64))
                low.append(words[:, 1].astype(np.uint64))
        self._high, self._low = np.concatenate(high), np.concatenate(low)

    def contains(self, high: Words, low: Words) -> Found:
        """For each id whether it is in the run."""
        found = np.zeros(len(high), dtype=bool)
        place = np.searchsorted(self._high, high)
        rows = np.arange(len(high))
        while True:
            rows = rows[place[rows] < len(self._high)]
            rows = rows[self._high[place[rows]] == high[rows]]
            if not len(rows):
                return found
            found[rows] = self._low[place[rows]] == low[rows]
            # Ids that share their first half follow each other: practically never.
            rows = rows[~found[rows]]
            place[rows] += 1


class PagedIds:
    """A run in an anonymous file."""

    def __init__(self, parts: Iterable[pa.ChunkedArray]) -> None:
        self._file = tempfile.TemporaryFile(prefix="moraine-index-")  # noqa: SIM115  (lives as long as this object)
        fences: list[Words] = []
        for page in _paged(parts):
            fences.append(page[:, 0, 0].copy())
            self._file.write(page.tobytes())
        self._file.flush()
        self._fences = np.concatenate([np.empty(0, np.uint64), *fences])

    def contains(self, high: Words, low: Words) -> Found:
        """For each id whether it is in the run."""
        parts = range(0, len(high), _TOGETHER)
        found = [self._contains(high[at : at + _TOGETHER], low[at : at + _TOGETHER]) for at in parts]
        return np.concatenate([np.empty(0, bool), *found])

    def _contains(self, high: Words, low: Words) -> Found:
        found = np.zeros(len(high), dtype=bool)
        page = np.searchsorted(self._fences, high, side="right") - 1
        rows = np.flatnonzero(page >= 0)
        while len(rows):
            pages = self._pages(page[rows])
            hit = (pages[:, :, 0] == high[rows, None]) & (pages[:, :, 1] == low[rows, None])
            found[rows] = hit.any(axis=1)
            # Ids that share their first half may begin on the page before: practically never.
            rows = rows[~found[rows] & (self._fences[page[rows]] == high[rows]) & (page[rows] > 0)]
            page[rows] -= 1
        return found

    def _pages(self, numbers: npt.NDArray[np.intp]) -> Words:
        pages = np.empty((len(numbers), _PAGE, 2), np.uint64)
        view = pages.data.cast("B")
        size, descriptor = _PAGE * 16, self._file.fileno()
        for place, number in enumerate(numbers.tolist()):
            os.preadv(descriptor, [view[place * size : (place + 1) * size]], number * size)
        return pages


def halves(ids: bytes) -> tuple[Words, Words]:
    """The two halves that count, of ids of 32 bytes end to end."""
    table = np.frombuffer(ids, dtype=">u8").reshape(-1, 4)
    return table[:, 0].astype(np.uint64), table[:, 1].astype(np.uint64)


def first_words(ids: pa.ChunkedArray) -> Words:
    """The first eight bytes of each id as a number, in the order of the ids."""
    parts = [words[:, 0].astype(np.uint64) for words in _words(ids)]
    return np.concatenate([np.empty(0, np.uint64), *parts])


def _paged(parts: Iterable[pa.ChunkedArray]) -> Iterator[Words]:
    """The ids' halves in whole pages, many at a time; the last page is filled up."""
    left = np.empty((0, 2), np.uint64)
    for part in parts:
        for words in _words(part):
            left = np.concatenate([left, words[:, :2].astype(np.uint64)])
            whole = len(left) // _PAGE * _PAGE
            yield left[:whole].reshape(-1, _PAGE, 2)
            left = left[whole:]
    if len(left):
        page = np.full((_PAGE, 2), _END)
        page[: len(left)] = left
        yield page.reshape(1, _PAGE, 2)


def _words(ids: pa.ChunkedArray) -> Iterator[Words]:
    for chunk in ids.chunks:
        data = np.frombuffer(chunk.buffers()[1], dtype=">u8").reshape(-1, 4)
        yield data[chunk.offset : chunk.offset + len(chunk)]
