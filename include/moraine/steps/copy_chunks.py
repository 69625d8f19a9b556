"""From bytes to new chunks: hashing, dedup, and bundling of small files. The copy step's way into the repository."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from blake3 import blake3

from moraine.engine.known import KnownIds
from moraine.repository.sealing import Block, ChunkWriter
from moraine.sources.base import OpenFile

_MOST_BUNDLED = 8192  # chunks of one frame; keeps a frame of tiny files small enough to read back for one of them


class Membership(Protocol):
    """What dedup asks of the repository's index."""

    def contains(self, ids: Sequence[bytes]) -> list[bool]:
        """For each id whether a committed chunk has it."""


class NewChunks:
    """Hands to the writer what neither the repository nor this shard holds yet.

    Small files are read straight into the memory their bundle is compressed from: `read`, then `keep`. Chunks of large
    files are stored from the block they were read into.
    """

    def __init__(
        self, writer: ChunkWriter, index: Membership, known: KnownIds, *, id_key: bytes, small: int, bundle: int
    ) -> None:
        self._writer = writer
        self._index = index
        self._known = known
        self._key = id_key
        self._small = small
        self._bundle = bundle
        self._block: Block | None = None
        self._view = memoryview(b"")
        self._start = self._end = 0  # of the bundle in its block
        self._ids: list[bytes] = []
        self._sizes: list[int] = []

    def read(self, file: OpenFile, size: int) -> int:
        """Read up to `size` bytes of a small file to the bundle's end; how many came. Only `keep` makes them stay."""
        if self._block is None or self._end + size > len(self._view):
            self._change_block()
        view = self._view[self._end : self._end + size]
        got = file.readinto(view) if size else 0
        while got < size and (more := file.readinto(view[got:])):
            got += more
        return got

    def at_hand(self, size: int) -> memoryview:
        """The first `size` of the bytes last read."""
        return self._view[self._end : self._end + size]

    def keep(self, size: int) -> bytes:
        """Take the first `size` of the bytes last read as a chunk; its id."""
        begin = self._end
        self._end = end = begin + size
        chunk_id = blake3(self._view[begin:end], key=self._key).digest()
        self._ids.append(chunk_id)
        self._sizes.append(size)
        if end - self._start >= self._bundle or len(self._ids) >= _MOST_BUNDLED:
            self.flush()
        return chunk_id

    def store(self, block: Block, ends: Sequence[int]) -> list[bytes]:
        """Store the chunks that lie end to end in `block`, up to the offsets `ends`; their ids."""
        spans = list(zip([0, *ends], ends, strict=False))
        ids = [blake3(block.view[begin:end], key=self._key).digest() for begin, end in spans]
        for fresh, chunk_id, (begin, end) in zip(self._fresh(ids), ids, spans, strict=True):
            if fresh:
                self._writer.store(block, begin, end, [chunk_id], [end - begin])
        return ids

    def flush(self) -> None:
        """Pass the bundle on, without the chunks that are known."""
        ids, sizes = self._ids, self._sizes
        if not ids:
            return
        assert self._block
        fresh = self._fresh(ids)
        if not all(fresh):
            self._close_gaps(fresh)
            ids = [chunk_id for chunk_id, new in zip(ids, fresh, strict=True) if new]
            sizes = [size for size, new in zip(sizes, fresh, strict=True) if new]
        if ids:
            self._writer.store(self._block, self._start, self._end, ids, sizes)
        self._ids, self._sizes = [], []
        self._start = self._end

    def close(self) -> None:
        """Flush, and give the block back."""
        self.flush()
        if self._block:
            self._block.release()
            self._block = None

    def _change_block(self) -> None:
        self.close()
        self._block = self._writer.block()
        self._view = self._block.view
        self._start = self._end = 0

    def _fresh(self, ids: list[bytes]) -> list[bool]:
        """For each id whether it is to be stored; those are known from now on."""
        held = self._known.contains(ids)
        maybe = [chunk_id for chunk_id, known in zip(ids, held, strict=True) if not known]
        committed = {chunk_id for chunk_id, known in zip(maybe, self._index.contains(maybe), strict=True) if known}
        fresh = []
        taken: set[bytes] = set()
        for chunk_id, known in zip(ids, held, strict=True):
            new = not known and chunk_id not in committed and chunk_id not in taken
            fresh.append(new)
            if new:
                taken.add(chunk_id)
                self._known.add(chunk_id)
        return fresh

    def _close_gaps(self, fresh: list[bool]) -> None:
        """Move the new chunks of the bundle together, run by run."""
        target = source = self._start
        view = self._view
        for size, new in zip(self._sizes, fresh, strict=True):
            if new:
                if target != source:
                    view[target : target + size] = view[source : source + size]
                target += size
            source += size
        self._end = target
