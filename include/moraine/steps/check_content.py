"""One pack at a time, on its own: what its trailer says and, where that is asked for, whether every byte is sound.

A thread works on one pack at a time, frame after frame in the same memory, which so stays in its processor's cache.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import field
from functools import partial

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from moraine.engine.frames import Codec, Seal
from moraine.engine.packing import Records
from moraine.errors import DamagedObject, IntegrityError, KeyUnavailable, MissingObject, ObjectNotFound
from moraine.model.record import dataclass
from moraine.repository.packs import read_records
from moraine.repository.read_order import Frame
from moraine.repository.repository import Repository
from moraine.stores.ahead import NEAR, at_once, begin
from moraine.stores.base import Buffer

_MIX = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5, 0xD6E8FEB86659FD93)
_TOGETHER = 8 << 20  # bytes of neighbouring frames that a remote store is asked for at once
_MANY = 16  # chunks of a frame

Load = Callable[[], Buffer]
Marks = npt.NDArray[np.uint64]


@dataclass(slots=True)
class Seen:
    """What was seen of one pack."""

    key: str
    locked: bool = False  # this key may not open it
    marks: Marks | None = None  # of its chunks, by the trailer; None when that cannot be read
    fault: tuple[str, str] | None = None  # the first thing wrong with it: code and message
    lost: list[bytes] = field(default_factory=list)  # ids of chunks that cannot be read
    bytes: int = 0  # opened and hashed
    chunks: int = 0


class PackLook:
    """Looks at packs; may be called in several threads."""

    def __init__(self, repository: Repository) -> None:
        self._store = repository.store
        self._keyring = repository.keyring
        # What one frame takes stays in the processor's cache; to a remote store each request is a way to go.
        self._together = _TOGETHER if at_once(repository.store) > NEAR else 0
        self._local = threading.local()
        # Hashing a small chunk takes no longer than passing the interpreter's lock on and back: two threads at it are
        # slower than one, while one hashes and the other decompresses well together.
        self._turn = threading.Lock()

    def look(self, key: str, number: int, size: int, *, content: bool) -> Seen:
        """Look at the pack `key` of `size` bytes, which is `number` in marks; with `content` at all of it."""
        seen = Seen(key)
        try:
            _, seal, records = read_records(self._store, self._keyring, key, size)
        except KeyUnavailable:
            seen.locked = True
        except IntegrityError as error:
            seen.fault = (f"pack-{'missing' if isinstance(error, MissingObject) else 'damaged'}", error.message)
        else:
            columns = [records[name] for name in ("offset", "length", "at", "size")]
            seen.marks = to_marks(_id_bytes(records), np.full(len(records), number), *columns)
            if content:
                self._read(seal, records[np.lexsort((records["at"], records["offset"]))], seen)
        return seen

    def _read(self, seal: Seal, records: Records, seen: Seen) -> None:
        """Open every frame and hash every chunk."""
        ids, begins = _id_bytes(records), records["at"].tolist()
        ends = (records["at"].astype(np.int64) + records["size"]).tolist()
        for request, load in self._ahead(seal.pack, _requests(records, self._together)):
            start = request[0].offset
            try:
                data = memoryview(load())
            except ObjectNotFound:
                _lose(seen, f"pack {seal.pack} is gone", ids[32 * request[0].first : 32 * request[-1].last])
                continue
            for frame in request:
                chunks = slice(frame.first, frame.last)
                sealed = data[frame.offset - start :][: frame.length]
                self._open(
                    seal, sealed, frame, ids[32 * frame.first : 32 * frame.last], begins[chunks], ends[chunks], seen
                )

    def _ahead(self, pack: str, requests: Iterator[list[Frame]]) -> Iterator[tuple[list[Frame], Load]]:
        """Requests, each with what gives its bytes; from afar the next one is on its way by then."""
        waiting: deque[tuple[list[Frame], Load]] = deque()
        for request in requests:
            length = request[-1].offset + request[-1].length - request[0].offset
            waiting.append(
                (request, begin(self._store, partial(self._store.get_range, pack, request[0].offset, length)))
            )
            if len(waiting) > 1:
                yield waiting.popleft()
        yield from waiting

    def _open(
        self, seal: Seal, sealed: memoryview, frame: Frame, ids: bytes, begins: list[int], ends: list[int], seen: Seen
    ) -> None:
        try:
            plain = self._codec().open(seal, sealed, frame.offset, self._room).plain
        except DamagedObject as error:
            _lose(seen, error.message, ids)
            return
        key = self._keyring.id_key
        with self._turn if len(ends) > _MANY else nullcontext():
            found = [blake3(plain[begin:end], key=key).digest() for begin, end in zip(begins, ends, strict=True)]
        seen.bytes += len(plain)
        seen.chunks += len(found)
        if b"".join(found) == ids and max(ends) <= len(plain):
            return
        wrong = [n for n, end in enumerate(ends) if found[n] != ids[32 * n : 32 * n + 32] or end > len(plain)]
        seen.chunks -= len(wrong)
        what = f"holds {len(wrong)} chunks that are not what their ids say"
        _lose(seen, seal.damage(frame.offset, what).message, b"".join(ids[32 * n : 32 * n + 32] for n in wrong))

    def _codec(self) -> Codec:
        codec: Codec | None = getattr(self._local, "codec", None)
        if codec is None:
            codec = self._local.codec = Codec()
        return codec

    def _room(self, size: int) -> memoryview:
        """Memory for a plain frame: the same again and again, as nobody looks at it afterwards."""
        room: memoryview = getattr(self._local, "room", memoryview(b""))
        if len(room) < size:
            room = self._local.room = np.empty(size, np.uint8).data
        return room[:size]


def to_marks(ids: bytes | memoryview, *columns: npt.NDArray[np.integer]) -> Marks:
    """64 bits that say which chunk lies where: rows that differ anywhere get different ones, but for an accident.

    Args:
        ids: 32 bytes each.
        columns: number of the pack, and offset, length, at and size as in the index.
    """
    mark: Marks = np.frombuffer(ids, "<u8")[::4].astype(np.uint64)
    for column, factor in zip(columns, _MIX, strict=True):
        mark = (mark ^ (column.astype(np.uint64) + np.uint64(1))) * np.uint64(factor)
        mark ^= mark >> np.uint64(29)
    return mark


def _requests(records: Records, most: int) -> Iterator[list[Frame]]:
    """The frames of a pack, which follow each other without a gap, in requests of up to `most` bytes, or one frame."""
    firsts = np.flatnonzero(np.diff(records["offset"], prepend=np.uint32(0)))  # the first frame is never at 0
    lasts = np.append(firsts[1:], len(records)).tolist()
    together: list[Frame] = []
    for first, last in zip(firsts.tolist(), lasts, strict=True):
        frame = Frame(int(records["offset"][first]), int(records["length"][first]), first, last)
        if together and frame.offset + frame.length - together[0].offset > most:
            yield together
            together = []
        together.append(frame)
    if together:
        yield together


def _lose(seen: Seen, message: str, ids: bytes) -> None:
    seen.fault = seen.fault or ("pack-damaged", message)
    seen.lost.append(ids)


def _id_bytes(records: Records) -> bytes:
    """The ids end to end; as values they would lose zeros at their ends."""
    return np.ascontiguousarray(records["id"]).tobytes()
