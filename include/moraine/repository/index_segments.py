"""Segments of the index: writing one, and merging many into a run.

Chunk ids are keyed hashes, evenly spread, so a run is divided by equal ranges of their first eight bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from moraine.model import compute as pc
from moraine.model.log import SegmentRef
from moraine.repository.documents import digest
from moraine.repository.index import Index, newest_first, runs
from moraine.repository.keys import Keyring
from moraine.repository.membership import first_words
from moraine.repository.tables import LOCATION, write_table
from moraine.stores.base import Store

COMPACT_AT = 16  # segments of level 0
LARGEST_SEGMENT = 1 << 18  # rows, about: 20 MiB in memory
_GROWTH = 4  # a run is merged again once what comes in has a quarter of its rows


def write_segments(
    tables: Iterable[pa.Table], *, make_key: Callable[[], str], store: Store, keyring: Keyring
) -> list[SegmentRef]:
    """Write LOCATION tables as segments of level 0, as few as keep to the size; none when there are no rows."""
    written: list[SegmentRef] = []
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) >= LARGEST_SEGMENT:
            written += write_segment(waiting, key=make_key(), store=store, keyring=keyring)
            waiting = []
    return written + (write_segment(waiting, key=make_key(), store=store, keyring=keyring) if waiting else [])


def write_segment(
    tables: Sequence[pa.Table], *, key: str, store: Store, keyring: Keyring, level: int = 0
) -> list[SegmentRef]:
    """Write one segment from LOCATION tables, one row per id; nothing when there are no rows."""
    table = sort_by_id(pa.concat_tables([LOCATION.empty_table(), *tables]))
    if not table.num_rows:
        return []
    data = write_table(table, key=key, keyring=keyring)
    store.put(key, data)
    first, last = (table["id"][row].as_py()[:8].hex() for row in (0, table.num_rows - 1))
    return [SegmentRef(key, digest(data), table.num_rows, level, first, last)]


def compactable(segments: Sequence[SegmentRef]) -> list[SegmentRef]:
    """The segments worth merging now: all of level 0 once there are many, and whole runs up to four times their rows.

    So every row is rewritten about log₄ of the index's size times in its life, and few runs stand at any time.
    """
    found = list(runs(segments))
    fresh = [run[0] for run in found if run[0].level == 0]
    if len(fresh) < COMPACT_AT:
        return []
    rows = sum(segment.rows for segment in fresh)
    for run in sorted((run for run in found if run[0].level), key=_rows):
        if _rows(run) <= _GROWTH * rows:
            fresh += run
            rows += _rows(run)
    return fresh


def compact(
    index: Index, segments: Sequence[SegmentRef], *, make_key: Callable[[], str], store: Store, keyring: Keyring
) -> list[SegmentRef]:
    """Merge `segments` of `index` into one run; the caller logs the exchange."""
    staying = {segment.level for segment in index.segments if segment not in segments}
    level = next(number for number in range(1, len(staying) + 2) if number not in staying)
    bits = (_rows(segments) // LARGEST_SEGMENT).bit_length()
    written: list[SegmentRef] = []
    for number in range(1 << bits):
        parts = list(_range(index, segments, number, bits))
        written += write_segment(parts, key=make_key(), store=store, keyring=keyring, level=level)
    return written


def sort_by_id(table: pa.Table) -> pa.Table:
    """LOCATION rows sorted by id, one per id: of equal ids the first."""
    table = table.unify_dictionaries().combine_chunks()
    if not table.num_rows:
        return table
    order = pc.array_sort_indices(pc.cast(table["id"].combine_chunks(), pa.binary()))
    ordered = pc.take(table, order)
    ids = ordered["id"].combine_chunks()
    fresh = np.ones(len(ids), dtype=bool)
    fresh[1:] = np.asarray(pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False))
    return ordered if fresh.all() else pc.filter(ordered, pc.from_numpy(fresh))


def _rows(segments: Sequence[SegmentRef]) -> int:
    return sum(segment.rows for segment in segments)


def _range(index: Index, segments: Sequence[SegmentRef], number: int, bits: int) -> Iterator[pa.Table]:
    """The rows whose ids begin with the `bits` bits of `number`. Segments that cannot have any are not read."""
    shift = np.uint64(64 - bits) if bits else None
    for segment in (one for one in newest_first(index.segments) if one in segments):
        if shift is None:
            yield index.load(segment)
        elif not segment.last or int(segment.first, 16) >> int(shift) <= number <= int(segment.last, 16) >> int(shift):
            table = index.load(segment)
            yield table.filter(pa.array((first_words(table["id"]) >> shift) == number))
