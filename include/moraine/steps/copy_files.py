"""Reads one file into chunks, once when it holds still, and says how far the result can be trusted."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from moraine.engine.chunking import HEAD, Chunking, Cutter
from moraine.engine.digests import file_digest
from moraine.engine.footers import Footer, TableFacts
from moraine.model.entry import Kind, State
from moraine.repository.sealing import ChunkWriter
from moraine.sources.base import Attributes, OpenFile, Reader, Stamp
from moraine.steps.copy_chunks import NewChunks
from moraine.steps.copy_parts import FileParts, PartsOfRun

ATTEMPTS = 4  # a file that changes under every one of them is stored as it was read last
_CLOCK_EVERY = 64  # files; an older reading of the clock only makes more files count as racy

Extents = list[tuple[int, int]]


class Content(NamedTuple):
    """What was read of a file: the columns of its row."""

    digest: bytes
    chunks: list[bytes] | None
    extents: bytes | None
    size: int
    state: int
    stamp: Stamp
    attributes: Attributes
    facts: TableFacts | None = None  # of a file of a table: what its footer says


class FileReader:
    """Reads files of one source into `chunks`."""

    def __init__(
        self,
        reader: Reader,
        chunks: NewChunks,
        writer: ChunkWriter,
        chunking: Chunking,
        *,
        id_key: bytes,
        small: int,
        racy_window: float,
        now: Callable[[], float],
        advance: Callable[[int], None],
        parts: PartsOfRun,
    ) -> None:
        self._reader = reader
        self._chunks = chunks
        self._writer = writer
        self._chunking = chunking
        self._key = id_key
        self._small = small
        self._window = racy_window
        self._now = now
        self._advance = advance
        self._parts = parts
        self._empty = file_digest([], id_key)
        self._clock_in = 0
        self._racy_from = 0  # ns: a file that changed since then may change again within the same tick

    def read(self, directory: bytes, name: bytes, uid: int, gid: int, listed: Stamp) -> Content:
        """Read one file. Raises SourceVanished, SourceDenied or another SourceError."""
        for attempt in range(1, ATTEMPTS + 1):
            racy_from = self._clock()
            # What was listed holds still as a rule, and is looked at once it has been read. Holes, and what has
            # changed since, show then: such a file is read a second time, by what it is now.
            trusted = listed if attempt == 1 and listed.size <= self._small else None
            file = self._reader.open(directory, name, trusted)
            try:
                stamp = file.stamp
                extents = file.extents()
                stored = stamp.size if extents is None else sum([length for _, length in extents])
                footer = Footer(name, stored)
                ids: list[bytes] | None = None
                if stored <= self._small:
                    got = self._chunks.read(file, stored)
                    footer.take(self._chunks.at_hand(got))
                else:
                    parts = self._parts.of(directory, name, stamp, extents, racy_from)
                    got = self._large_file(file, stored, parts, footer)
                    ids, racy_from = parts.ids, parts.racy_from
                # While the file is open, a source may read its attributes through it: cheaper than by name.
                attributes = self._reader.attributes(directory, name, Kind.FILE, uid, gid)
                still = file.finish() == stamp and got == stored
            except BaseException:
                file.close()
                raise
            if still or attempt == ATTEMPTS:
                break
        racy = not still or stamp != listed or stamp.mtime_ns >= racy_from or stamp.ctime_ns >= racy_from
        facts = footer.facts() if extents is None else None  # the bytes of a sparse file came without its holes
        return self._content(ids, extents, got, State.RACY if racy else State.OK, stamp, attributes, facts)

    def _content(
        self,
        ids: list[bytes] | None,
        extents: Extents | None,
        got: int,
        state: int,
        stamp: Stamp,
        attributes: Attributes,
        facts: TableFacts | None,
    ) -> Content:
        """What was read, as columns; without `ids` it is the small file that was read last."""
        if ids is None and extents is None:
            digest = self._chunks.keep(got) if got else self._empty
            return Content(digest, None, None, got, state, stamp, attributes, facts)
        if ids is None:
            ids = [self._chunks.keep(got)] if got else []
        packed, size = _pack_extents(extents, stamp.size, got)
        several = ids if len(ids) > 1 else None
        return Content(file_digest(ids, self._key), several, packed, size, state, stamp, attributes, facts)

    def _large_file(self, file: OpenFile, stored: int, parts: FileParts, footer: Footer) -> int:
        """Read what its parts do not hold yet; how many stored bytes the file has had."""
        self._clock_in = 0
        fill, total = 0, parts.end
        cutter: Cutter | None = None
        block = self._writer.block()
        try:
            if total:
                head = block.view[: _fill(file, block.view[:HEAD], stored)]
                cutter = self._chunking.choose(head)
                footer.take(head)
                file.skip(total - HEAD)
                footer.skip(total - HEAD)
                self._advance(total)
            while True:
                count = _fill(file, block.view[fill : self._span(cutter)], stored - total)
                self._advance(count)
                footer.take(block.view[fill : fill + count])
                total += count
                fill += count
                last = total == stored or fill < self._span(cutter)
                if cutter is None:
                    cutter = self._chunking.choose(block.view[:fill])
                    if not last and cutter.span > fill:
                        continue
                ends = cutter.cut(block.view[:fill], last)
                begin = total - fill
                parts.add(self._chunks.store(block, ends), [begin + end for end in ends])
                if last:
                    return total
                block, old = self._writer.block(), block
                done = ends[-1]
                block.view[: fill - done] = old.view[done:fill]
                fill -= done
                old.release()
        finally:
            block.release()

    def _span(self, cutter: Cutter | None) -> int:
        return cutter.span if cutter else self._chunking.first_span

    def _clock(self) -> int:
        if not self._clock_in:
            self._clock_in = _CLOCK_EVERY
            self._racy_from = int((self._now() - self._window) * 1e9)
        self._clock_in -= 1
        return self._racy_from


def _fill(file: OpenFile, view: memoryview, most: int) -> int:
    """Read until `view` is full, `most` bytes are there, or the file ends."""
    want = min(len(view), most)
    got = 0
    while got < want:
        count = file.readinto(view[got:want])
        if not count:
            break
        got += count
    return got


def _pack_extents(extents: Extents | None, size: int, got: int) -> tuple[bytes | None, int]:
    """The stored form of the extents that `got` bytes fill, and the size of the file that ends with them."""
    if extents is None:
        return None, got
    kept: Extents = []
    left = got
    for offset, length in extents:
        if left:
            kept.append((offset, min(length, left)))
            left -= kept[-1][1]
    whole = kept == extents
    packed = struct.pack(f"<{2 * len(kept)}q", *(number for pair in kept for number in pair))
    return packed, size if whole else sum(kept[-1], 0) if kept else 0
