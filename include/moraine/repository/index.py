"""The index: which pack holds a chunk, and where. Parquet segments sorted by chunk id.

Sessions add level-0 segments; when there are many, they are compacted into a few level-1 segments by hash prefix.
Membership keeps 16 bytes of each id in memory (two sorted arrays), enough that two different keyed ids never meet;
places are read from the segments only for the ids asked for.

A chunk that was found damaged is stored anew, so an id may stand in two segments. The newer place counts: a level-0
segment's before a compacted one's (which holds only what was committed earlier), and of one level the later one's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from moraine.errors import MissingObject, ObjectNotFound
from moraine.model.log import SegmentRef
from moraine.repository.documents import digest
from moraine.repository.keys import Keyring
from moraine.repository.tables import LOCATION, read_table, write_table
from moraine.stores.base import Store

COMPACT_AT = 16
LARGEST_SEGMENT = 1 << 20

Halves = tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]


class Index:
    """The committed chunks, as of the segments of a log state."""

    def __init__(self, store: Store, keyring: Keyring, segments: Sequence[SegmentRef]) -> None:
        self._store = store
        self._keyring = keyring
        self.segments = list(segments)  # in the order of the log
        self._known: list[Halves] | None = None

    def contains(self, ids: Sequence[bytes]) -> list[bool]:
        """For each 32-byte id whether a committed chunk has it. Loads the ids' halves once."""
        if not ids or not self.segments:
            return [False] * len(ids)
        if self._known is None:
            self._known = [_halves(self.load(segment, ["id"])["id"]) for segment in self.segments]
        high, low = _split(np.frombuffer(b"".join(ids), dtype=">u8"))
        found = np.zeros(len(ids), dtype=bool)
        for known in self._known:
            found |= _member(known, high, low)
        return [bool(f) for f in found]

    def locate(self, ids: pa.Array) -> pa.Table:
        """The places of chunks (LOCATION, one row per distinct id). Raises MissingObject for an unknown id."""
        wanted = pc.unique(ids)
        found: list[pa.Table] = []
        left = wanted
        for segment in newest_first(self.segments):
            if not len(left):
                break
            table = self.load(segment)
            hits = pc.index_in(left, value_set=table["id"].combine_chunks())
            found.append(table.take(pc.drop_null(hits)))
            left = left.filter(pc.is_null(hits))
        if len(left):
            raise MissingObject(
                f"{len(left)} chunk{'s' * (len(left) != 1)} ({left[0].as_py().hex()[:16]}…) are in no index segment",
                hint="run `moraine check`",
            )
        return pa.concat_tables(found).unify_dictionaries() if found else LOCATION.empty_table()

    def load(self, segment: SegmentRef, columns: Sequence[str] | None = None) -> pa.Table:
        """One segment's rows. Raises MissingObject, DamagedObject."""
        try:
            data = self._store.get(segment.key)
        except ObjectNotFound as error:
            raise MissingObject(
                f"index segment {segment.key} is gone",
                hint="restore it from a copy of the store; its rows also stand in the packs' trailers",
                object=segment.key,
            ) from error
        return read_table(data, key=segment.key, keyring=self._keyring, expect=segment.digest, columns=columns)


def write_segment(
    tables: Sequence[pa.Table], *, key: str, store: Store, keyring: Keyring, level: int = 0
) -> SegmentRef | None:
    """Write one segment from LOCATION tables, one row per id; None when there are no rows."""
    table = sort_by_id(pa.concat_tables([LOCATION.empty_table(), *tables]))
    if not table.num_rows:
        return None
    data = write_table(table, key=key, keyring=keyring)
    store.put(key, data)
    return SegmentRef(key, digest(data), table.num_rows, level)


def newest_first(segments: Sequence[SegmentRef]) -> list[SegmentRef]:
    """Segments, given in the order of the log, in the order in which their places count."""
    ordered = sorted(enumerate(segments), key=lambda item: (item[1].level, -item[0]))
    return [segment for _, segment in ordered]


def compactable(segments: Sequence[SegmentRef]) -> list[SegmentRef]:
    """The segments worth merging now: all of level 0 once there are many, and larger ones up to four times their rows.

    So every row is rewritten about log₄ of the index's size times in its life, and few segments stand at any time.
    """
    fresh = [segment for segment in segments if segment.level == 0]
    if len(fresh) < COMPACT_AT:
        return []
    rows = sum(segment.rows for segment in fresh)
    for segment in sorted((s for s in segments if s.level), key=lambda s: s.rows):
        if segment.rows <= 4 * rows:
            fresh.append(segment)
            rows += segment.rows
    return fresh


def compact(
    index: Index, segments: Sequence[SegmentRef], *, make_key: Callable[[], str], store: Store, keyring: Keyring
) -> list[SegmentRef]:
    """Merge `segments` into level 1, split by id range so that no segment grows large; the caller logs the exchange."""
    rows = sum(segment.rows for segment in segments)
    bits = (rows // LARGEST_SEGMENT).bit_length()
    places = {segment.key: place for place, segment in enumerate(index.segments)}
    ordered = newest_first(sorted(segments, key=lambda segment: places.get(segment.key, 0)))
    written: list[SegmentRef] = []
    for number in range(1 << bits):
        parts = [_range(index.load(segment), number, bits) for segment in ordered]
        segment = write_segment(parts, key=make_key(), store=store, keyring=keyring, level=1)
        if segment:
            written.append(segment)
    return written


def sort_by_id(table: pa.Table) -> pa.Table:
    """LOCATION rows sorted by id, one per id: of equal ids the first."""
    table = table.unify_dictionaries().combine_chunks()
    if not table.num_rows:
        return table
    order = pc.sort_indices(table["id"].cast(pa.binary()))
    ordered = table.take(order)
    ids = ordered["id"].combine_chunks()
    fresh = np.ones(len(ids), dtype=bool)
    fresh[1:] = np.asarray(pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False))
    return ordered if fresh.all() else ordered.filter(pa.array(fresh))


def _range(table: pa.Table, number: int, bits: int) -> pa.Table:
    if not bits:
        return table
    high, _ = _halves(table["id"], sort=False)
    return table.filter(pa.array((high >> np.uint64(64 - bits)) == number))


def _halves(ids: pa.ChunkedArray, *, sort: bool = True) -> Halves:
    parts = list(_raw(ids))
    high, low = _split(np.concatenate(parts)) if parts else (np.empty(0, np.uint64), np.empty(0, np.uint64))
    if not sort:
        return high, low
    order = np.argsort(high, kind="stable")
    return high[order], low[order]


def _raw(ids: pa.ChunkedArray) -> Iterator[npt.NDArray[np.uint64]]:
    for chunk in ids.chunks:
        data = np.frombuffer(chunk.buffers()[1], dtype=">u8")
        yield data[chunk.offset * 4 : (chunk.offset + len(chunk)) * 4]


def _split(words: npt.NDArray[np.uint64]) -> Halves:
    table = words.reshape(-1, 4)
    return table[:, 0].astype(np.uint64), table[:, 1].astype(np.uint64)


def _member(known: Halves, high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    known_high, known_low = known
    at = np.searchsorted(known_high, high)
    inside = at < len(known_high)
    found = np.zeros(len(high), dtype=bool)
    found[inside] = (known_high[at[inside]] == high[inside]) & (known_low[at[inside]] == low[inside])
    for row in np.flatnonzero(inside & ~found):  # equal first halves with other second halves: practically never
        place = at[row]
        while place < len(known_high) and known_high[place] == high[row]:
            found[row] |= known_low[place] == low[row]
            place += 1
    return found
