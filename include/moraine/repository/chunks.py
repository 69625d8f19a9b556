"""Reading chunks back: the one way in which stored content becomes bytes again.

Owns the order of reads (by pack and offset), the coalescing of ranges, the read-ahead and its memory bound, and the
check that every chunk is the one its id names. It must not know files, manifests or targets: callers say which rows
of a LOCATION table they want and get frames with the positions of those rows in them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import field
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from blake3 import blake3

from moraine.engine.frames import Codec, Seal
from moraine.errors import DamagedObject, IntegrityError, KeyUnavailable, MissingObject, MoraineError, ObjectNotFound
from moraine.model.record import dataclass
from moraine.repository.fetch import Load, fetched
from moraine.repository.keys import Keyring
from moraine.repository.packs import open_seal
from moraine.repository.read_order import Frame, Request, Wanted
from moraine.stores.base import Store

Positions = npt.NDArray[np.int64]

_SMALLEST_BUFFER = 1 << 16
_CACHED = 4 << 20  # bytes of a request and what it opens to that are still at hand when they are taken


@dataclass(slots=True)
class Opened:
    """One frame, decrypted and decompressed, with the wanted chunks in it; every one of them is re-hashed already.

    `data[at[i] : at[i] + size[i]]` is the chunk of row `rows[i]` of the table that `read` was given. The arrays have
    equal lengths; `at` does not go down. Rows that name the same chunk stand beside each other, each on its own.
    `data` belongs to the receiver, who may hand it to other threads. `release()` gives the memory back for a later
    frame; that is faster than leaving it to the garbage collector, but not needed.
    """

    pack: str
    offset: int
    data: memoryview
    rows: Positions
    at: Positions
    size: Positions
    _buffers: Buffers | None = field(default=None, repr=False)

    def release(self) -> None:
        """Give the buffer back; `data` must not be touched afterwards."""
        buffers, self._buffers = self._buffers, None
        if buffers:
            buffers.give(self.data)


@dataclass(frozen=True, slots=True)
class Lost:
    """Rows whose chunks cannot be had, and why."""

    rows: Positions
    error: MoraineError  # DamagedObject, MissingObject, KeyUnavailable: with pack and offset in message and context


class Buffers:
    """Memory for plain frames, used again: fresh pages cost more than decryption. Sizes are powers of two."""

    def __init__(self, most: int) -> None:
        self._left = most  # bytes that may still be kept for later
        self._free: dict[int, list[memoryview]] = {}
        self._lock = threading.Lock()

    def take(self, size: int) -> memoryview:
        """`size` writable bytes of any content."""
        room = max(_SMALLEST_BUFFER, 1 << (size - 1).bit_length() if size else 0)
        with self._lock:
            kept = self._free.get(room)
            whole = kept.pop() if kept else None
            if whole is not None:
                self._left += room
        return (whole if whole is not None else np.empty(room, np.uint8).data)[:size]

    def give(self, view: memoryview) -> None:
        """Take back what `take` gave."""
        whole = memoryview(view.obj)  # the array that `take` made
        with self._lock:
            if len(whole) <= self._left:
                self._left -= len(whole)
                self._free.setdefault(len(whole), []).append(whole)


class _Shared:
    """Requests that several threads draw from, one after another."""

    def __init__(self, requests: Iterator[tuple[Request, Load]]) -> None:
        self._requests = requests
        self._turn = threading.Lock()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[Request, Load]:
        with self._turn:
            return next(self._requests)

    def end(self) -> None:
        """Have no more of them."""
        with self._turn:
            self._requests = iter(())


class ChunkReader:
    """Reads chunks of one repository. One object may serve many `read` calls, one after another or in threads."""

    def __init__(self, store: Store, keyring: Keyring, *, workers: int = 2, memory: int = 32 << 20) -> None:
        self._store = store
        self._keyring = keyring
        self._workers = workers
        self._memory = memory
        self._local = threading.local()

    def part(self, workers: int, of: int) -> ChunkReader:
        """A reader with so many `of` the threads that share the cores and the memory between several processes."""
        return ChunkReader(self._store, self._keyring, workers=workers, memory=self._memory * workers // of)

    def read(self, locations: pa.Table, *, lost: Callable[[Lost], None] | None = None) -> Iterator[Opened]:
        """The chunks of `locations` (LOCATION rows, any order), frame by frame in (pack, offset) order.

        Each frame is fetched, opened and decompressed once; neighbours come in one range request. Worker threads run
        ahead by at most about `memory` bytes; they end with the iterator (also when it is closed early).

        Args:
            locations: what to read; row numbers in the answers are positions in this table.
            lost: called (in the caller's thread) for rows that cannot be had, and reading goes on with the others.
                Without it the first such error is raised. Store trouble other than a missing pack is always raised.

        Raises:
            DamagedObject: a frame or chunk is not what was written; names pack and offset.
            MissingObject: a pack is gone.
            KeyUnavailable: the keyring may not read content.
        """
        wanted = Wanted.of(locations)
        buffers = Buffers(self._memory)
        ahead: deque[tuple[Future[list[Opened | Lost]], int]] = deque()
        held = 0
        most = self._memory // (2 * self._workers)  # so that each has one in hand while another waits to be taken
        with ThreadPoolExecutor(self._workers, thread_name_prefix="read") as pool:
            try:
                for request, load in fetched(self._store, wanted, most):
                    while ahead and held + request.cost > self._memory:
                        future, cost = ahead.popleft()
                        yield from _deliver(future.result(), lost)
                        held -= cost
                    ahead.append((pool.submit(list, self._fetch(wanted, request, load, buffers)), request.cost))
                    held += request.cost
                while ahead:
                    yield from _deliver(ahead.popleft()[0].result(), lost)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def each(
        self, locations: pa.Table, take: Callable[[Opened], None], *, lost: Callable[[Lost], None] | None = None
    ) -> None:
        """As `read`, but whoever has opened a frame also takes it, while it is in the cache of that core.

        Each worker has one request in hand: all of them together take half of `memory`, or one frame each.

        Args:
            locations: what to read; row numbers in the answers are positions in this table.
            take: called with each frame, by several threads at once; it releases what it is given. One worker needs
                no thread: it is the caller's.
            lost: as in `read`, but called by any of the threads.

        Raises:
            What `read` raises, and what `take` and `lost` do. All workers have ended then, and take nothing more.
        """
        wanted = Wanted.of(locations)
        buffers = Buffers(self._memory)
        requests = _Shared(fetched(self._store, wanted, min(_CACHED, self._memory // (2 * self._workers))))

        def work() -> None:
            for request, load in requests:
                for opened in _deliver(self._fetch(wanted, request, load, buffers), lost):
                    take(opened)

        if self._workers == 1:
            work()
            return
        with ThreadPoolExecutor(self._workers, thread_name_prefix="read") as pool:
            try:
                for ended in as_completed([pool.submit(work) for _ in range(self._workers)]):
                    ended.result()
            finally:
                requests.end()

    def _fetch(self, wanted: Wanted, request: Request, load: Load, buffers: Buffers) -> Iterator[Opened | Lost]:
        pack = wanted.packs[request.pack]
        rows = wanted.rows[request.frames[0].first : request.frames[-1].last]
        try:
            seal = self._seal(pack, wanted.keys[request.pack])
            data = load()
        except ObjectNotFound as error:
            yield Lost(rows, _gone(pack, error))
            return
        except (IntegrityError, KeyUnavailable) as error:
            yield Lost(rows, error)
            return
        for frame in request.frames:
            begin = frame.offset - request.start
            yield from self._open(seal, data[begin : begin + frame.length], frame, wanted, buffers)

    def _seal(self, pack: str, wrapped: bytes) -> Seal:
        seal: Seal | None = getattr(self._local, "seal", None)
        if seal is None or seal.pack != pack:
            seal = self._local.seal = open_seal(self._keyring, pack, wrapped)
        return seal

    def _open(
        self, seal: Seal, data: memoryview, frame: Frame, wanted: Wanted, buffers: Buffers
    ) -> list[Opened | Lost]:
        codec: Codec | None = getattr(self._local, "codec", None)
        if codec is None:
            codec = self._local.codec = Codec()
        span = slice(frame.first, frame.last)
        rows, at, size = wanted.rows[span], wanted.at[span], wanted.size[span]
        try:
            plain = codec.open(seal, data, frame.offset, buffers.take).plain
        except DamagedObject as error:
            return [Lost(rows, error)]
        good = self._verify(plain, wanted, rows, at, size)
        if all(good):
            return [Opened(seal.pack, frame.offset, plain, rows, at, size, buffers)]
        kept = np.array(good)
        wrong = seal.damage(frame.offset, f"holds {int((~kept).sum())} chunks that are not what their ids say")
        opened = Opened(seal.pack, frame.offset, plain, rows[kept], at[kept], size[kept], buffers)
        return [Lost(rows[~kept], wrong), opened]

    def _verify(self, plain: memoryview, wanted: Wanted, rows: Positions, at: Positions, size: Positions) -> list[bool]:
        key = self._keyring.id_key
        last: tuple[int, int] | None = None
        last_id = b""
        good = []
        for row, begin, length in zip(rows.tolist(), at.tolist(), size.tolist(), strict=True):
            if last != (begin, length):
                last = (begin, length)
                last_id = blake3(plain[begin : begin + length], key=key).digest()
            good.append(last_id == wanted.id_of(row) and begin + length <= len(plain))
        return good


def _deliver(found: Iterable[Opened | Lost], lost: Callable[[Lost], None] | None) -> Iterator[Opened]:
    for item in found:
        if isinstance(item, Opened):
            yield item
        elif lost is None:
            raise item.error
        else:
            lost(item)


def _gone(pack: str, cause: ObjectNotFound) -> MissingObject:
    error = MissingObject(f"pack {pack} is gone", hint="restore it from a copy of the store", object=pack, offset=0)
    error.__cause__ = cause
    return error
