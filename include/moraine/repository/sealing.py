"""Writing chunks: blocks of memory to fill, and threads that compress and seal what lies in them.

The mirror of `repository.chunks`. Owns the ring of reused blocks (fresh memory costs more than encryption) and the
worker threads. It must not know files or dedup: callers hand over only what has to be stored.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType

import numpy as np

from moraine.engine.frames import Codec
from moraine.repository.packs import PackWriter, StoredPack


class Block:
    """A piece of the ring. It returns there once its filler and all frames cut from it have let go."""

    __slots__ = ("_holders", "_lock", "_ring", "view")

    def __init__(self, size: int, ring: queue.LifoQueue[Block]) -> None:
        self.view = np.empty(size, np.uint8).data  # unlike bytearray(size), takes no page before it is used
        self._ring = ring
        self._lock = threading.Lock()
        self._holders = 0

    def hold(self) -> None:
        """One more holder."""
        with self._lock:
            self._holders += 1

    def release(self) -> None:
        """One holder less."""
        with self._lock:
            self._holders -= 1
            idle = not self._holders
        if idle:
            self._ring.put(self)


class ChunkWriter:
    """Seals chunks into packs: fill a `block()`, pass ranges of it to `store`, release it.

    Use as a context manager; leaving it with an exception drops what is under way and ends all threads. Errors of
    workers and uploads are raised by the next call.
    """

    def __init__(self, packs: PackWriter, *, level: int, block_size: int, blocks: int = 4, workers: int = 2) -> None:
        self._packs = packs
        self._level = level
        self._ring: queue.LifoQueue[Block] = queue.LifoQueue()  # the block used last is still in the cache
        for _ in range(blocks):
            self._ring.put(Block(block_size, self._ring))
        self._local = threading.local()
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="seal")
        self._sealing: deque[Future[None]] = deque()

    def __enter__(self) -> ChunkWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._workers.shutdown(wait=True, cancel_futures=True)
        self._packs.close()
        with suppress(queue.Empty):
            while True:  # blocks and their ring refer to each other: without this they would stay for a while
                self._ring.get_nowait()

    def block(self) -> Block:
        """A block to fill, held once; waits while all are in use."""
        self._raise_failures()
        block = self._ring.get()
        block.hold()
        return block

    def store(self, block: Block, start: int, stop: int, ids: Sequence[bytes], sizes: Sequence[int]) -> None:
        """Seal `block.view[start:stop]` as one frame of the chunks `ids`, of `sizes`, end to end."""
        self._raise_failures()
        block.hold()
        self._sealing.append(self._workers.submit(self._seal, block, start, stop, ids, sizes))

    def drain(self) -> list[StoredPack]:
        """Wait until everything passed to `store` is durable: the packs written since the last call."""
        while self._sealing:
            self._sealing.popleft().result()
        return self._packs.drain()

    def _seal(self, block: Block, start: int, stop: int, ids: Sequence[bytes], sizes: Sequence[int]) -> None:
        try:
            codec: Codec | None = getattr(self._local, "codec", None)
            if codec is None:
                codec = self._local.codec = Codec(self._level)
            plain = block.view[start:stop]
            form, content = codec.encode(plain)
            self._packs.add(form, len(plain), content, ids, sizes)
        finally:
            block.release()

    def _raise_failures(self) -> None:
        while self._sealing and self._sealing[0].done():
            self._sealing.popleft().result()
