"""Which chunk ids an index knows: 16 bytes of each, sorted, in memory or in a temporary file.

Ids are keyed hashes, so two that are both written never share their first 16 bytes. They lie in pages; the first id of
each page is kept apart, so a lookup reads one page. A run larger than `IN_MEMORY` lies in an anonymous file, from which
the kernel may drop pages at any time: at 10⁸ ids and more, what stays in memory is one number a page.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

IN_MEMORY = 1 << 21  # ids of a run that stay in memory: 32 MiB
_PAGE = 256  # ids: 4 KiB
_TOGETHER = 1024  # ids looked up together: each has its page copied
_END = np.uint64(0xFFFFFFFFFFFFFFFF)  # fills the last page; no id that is looked for has it twice

Words = npt.NDArray[np.uint64]
Found = npt.NDArray[np.bool_]


class SortedIds:
    """One run of distinct ids in ascending order, given in parts that follow each other."""

    def __init__(self, parts: Iterable[pa.ChunkedArray], rows: int) -> None:
        """Take the ids of `parts`, `rows` in all."""
        self._file: IO[bytes] | None = None
        pages: list[Words] = []
        if rows > IN_MEMORY:
            self._file = tempfile.TemporaryFile(prefix="moraine-index-")  # noqa: SIM115  (lives as long as this object)
        fences: list[Words] = []
        for page in _paged(parts):
            fences.append(page[:, 0, 0].copy())
            if self._file:
                self._file.write(page.tobytes())
            else:
                pages.append(page)
        if self._file:
            self._file.flush()
        self._fences = np.concatenate([np.empty(0, np.uint64), *fences])
        self._held = np.concatenate([np.empty((0, _PAGE, 2), np.uint64), *pages])

    def contains(self, high: Words, low: Words) -> Found:
        """For each id, by its two halves, whether it is in the run."""
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
        if self._file is None:
            return self._held[numbers]
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
