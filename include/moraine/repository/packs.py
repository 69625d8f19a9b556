"""Packs in a store: writing them under a session's prefix, and reading their trailers back.

Owns names and keys of packs, and the thread that uploads them. It must not know files or where chunks come from.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from moraine.engine.frames import Buffer, Codec, Seal
from moraine.engine.packing import (
    FOOTER_SIZE,
    MOST_CHUNKS,
    PACK_HEADER_SIZE,
    PackBuffer,
    PackBuilder,
    Records,
    parse_footer,
    parse_header,
    parse_trailer,
)
from moraine.errors import DamagedObject, KeyUnavailable, MissingObject, ObjectNotFound
from moraine.model import compute as pc
from moraine.model.record import dataclass
from moraine.repository.keys import Entropy, Keyring
from moraine.repository.tables import LOCATION
from moraine.stores.ahead import begin
from moraine.stores.base import Store

_TAIL = 64 << 10  # read from a pack's end at first: the trailers of most packs


@dataclass(frozen=True, slots=True)
class StoredPack:
    """A pack that is durable: its object, and its chunks in 48 bytes each."""

    key: str
    size: int
    chunks: int
    plain: int  # bytes of them
    wrapped: bytes
    records: Records

    def locations(self) -> pa.Table:
        """Its chunks as LOCATION rows."""
        return to_locations(self.key, self.wrapped, self.records)


class PackWriter:
    """Collects frames into packs and uploads each as soon as it is full. `add` may be called from several threads.

    At most `in_flight` packs are being uploaded while one is filled; then `add` waits. After an upload has failed
    every call raises that error.
    """

    def __init__(
        self,
        store: Store,
        keyring: Keyring,
        *,
        name: Callable[[], str],
        entropy: Entropy,
        pack_size: int = 32 << 20,
        in_flight: int = 1,
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._name = name
        self._entropy = entropy
        self._pack_size = pack_size
        self._lock = threading.Lock()
        self._codec = Codec()
        self._builder: PackBuilder | None = None
        self._buffer = PackBuffer(0)
        self._free: queue.LifoQueue[PackBuffer] = queue.LifoQueue()
        for _ in range(in_flight + 1):
            self._free.put(PackBuffer(pack_size))
        self._uploader = ThreadPoolExecutor(in_flight, thread_name_prefix="upload")
        self._uploads: list[Future[StoredPack]] = []

    def add(self, codec: int, plain: int, content: Buffer, ids: Sequence[bytes], sizes: Sequence[int]) -> None:
        """Put one frame into the current pack; see `PackBuilder.add`."""
        with self._lock:
            builder = self._builder
            if builder and builder.chunks and self._overfull(builder, len(content), len(ids)):
                self._finish()
                builder = None
            builder = builder or self._start()
            builder.add(codec, plain, content, ids, sizes)

    def drain(self) -> list[StoredPack]:
        """Finish the current pack and wait until all is durable: the packs written since the last call."""
        with self._lock:
            if self._builder:
                self._finish()
            uploads, self._uploads = self._uploads, []
        return [upload.result() for upload in uploads]

    def close(self) -> None:
        """Drop what is not handed to the uploader, wait for what is, and end the threads."""
        self._uploader.shutdown(wait=True, cancel_futures=True)
        self._free = queue.LifoQueue()

    def _overfull(self, builder: PackBuilder, content: int, chunks: int) -> bool:
        return builder.final_size(content, chunks) > self._pack_size or builder.chunks + chunks > MOST_CHUNKS

    def _start(self) -> PackBuilder:
        self._raise_failure()
        self._buffer = self._free.get()
        pack_key = self._keyring.new_pack_key(self._entropy)
        self._builder = PackBuilder(self._name(), pack_key.key, pack_key.wrapped, self._buffer)
        return self._builder

    def _finish(self) -> None:
        builder, self._builder = self._builder, None
        assert builder
        data = builder.finish(self._codec)
        self._uploads.append(self._uploader.submit(self._upload, builder, data, self._buffer))

    def _upload(self, builder: PackBuilder, data: memoryview, buffer: PackBuffer) -> StoredPack:
        try:
            self._store.put(builder.pack, data)
            size, records = len(data), builder.records()
            return StoredPack(builder.pack, size, builder.chunks, builder.plain_bytes, builder.wrapped, records)
        finally:
            self._free.put(buffer)

    def _raise_failure(self) -> None:
        for upload in self._uploads:
            if upload.done():
                upload.result()


def to_locations(pack: str, wrapped: bytes, records: Records) -> pa.Table:
    """LOCATION rows of a pack's records."""
    count = len(records)
    numbers = pc.from_numpy(np.zeros(count, np.int32))
    ids = pa.py_buffer(np.ascontiguousarray(records["id"]).tobytes())
    columns = {
        "id": pa.Array.from_buffers(pa.binary(32), count, [None, ids]),
        "pack": pa.DictionaryArray.from_arrays(numbers, pa.array([pack], pa.string())),
        "key": pa.DictionaryArray.from_arrays(numbers, pa.array([wrapped], pa.binary())),
        **{name: pc.from_numpy(records[name]) for name in ("offset", "length", "at", "size")},
    }
    return pa.Table.from_pydict(columns, schema=LOCATION)


def read_trailer(store: Store, keyring: Keyring, key: str, size: int) -> pa.Table:
    """The LOCATION rows of a stored pack of `size` bytes, from the pack alone: see `read_records`."""
    wrapped, _, records = read_records(store, keyring, key, size)
    return to_locations(key, wrapped, records)


def read_records(store: Store, keyring: Keyring, key: str, size: int) -> tuple[bytes, Seal, Records]:
    """The wrapped key of a stored pack of `size` bytes, what opens its frames, and its chunks, from the pack alone.

    Serves resume, rebuilding of the index, verify and check: it proves that header, footer and trailer are whole, that
    they belong to an object of this name, and that the frames it lists fill the pack exactly.

    Raises:
        DamagedObject: something is not as it was written.
        MissingObject: the pack is gone.
        KeyUnavailable: this keyring may not read content.
    """
    try:
        first, tail = _ends(store, key, size)
        header = parse_header(key, first)
        footer = parse_footer(key, tail, size)
        if footer.trailer + FOOTER_SIZE > len(tail):
            tail = store.get_range(key, size - FOOTER_SIZE - footer.trailer, footer.trailer + FOOTER_SIZE)
    except ObjectNotFound as error:
        raise MissingObject(f"pack {key} is gone", hint="restore it from a copy of the store", object=key) from error
    if header.encrypted != keyring.encrypted:
        raise DamagedObject(
            f"{key} is {'' if header.encrypted else 'not '}encrypted, unlike its repository", object=key
        )
    frame = memoryview(tail)[-(footer.trailer + FOOTER_SIZE) : -FOOTER_SIZE]
    seal = open_seal(keyring, key, header.wrapped)
    return header.wrapped, seal, parse_trailer(seal, Codec(), frame, footer, size)


def _ends(store: Store, key: str, size: int) -> tuple[Buffer, Buffer]:
    """A pack's header and its last bytes; none of these where it is not of `size`, which one byte more shows."""
    if size <= _TAIL:
        whole = store.get_range(key, 0, size + 1)
        return whole[:PACK_HEADER_SIZE], whole if len(whole) == size else b""
    load = begin(store, lambda: store.get_range(key, 0, PACK_HEADER_SIZE))
    tail = store.get_range(key, size - _TAIL, _TAIL + 1)
    return load(), tail if len(tail) == _TAIL else b""


def open_seal(keyring: Keyring, pack: str, wrapped: bytes) -> Seal:
    """What opens a pack's frames. Raises DamagedObject, KeyUnavailable, both naming the pack."""
    try:
        return Seal(pack, keyring.open_pack_key(wrapped))
    except (DamagedObject, KeyUnavailable) as error:
        raise type(error)(f"{pack}: {error}", hint=error.hint, object=pack, offset=0) from error
