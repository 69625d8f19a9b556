"""The index: which pack holds a chunk, and where. Parquet segments sorted by chunk id.

Sessions add segments of level 0. When there are many, they are compacted into a run: segments of one level that divide
the ids among them by range. Segments are read one at a time, so memory is bounded by the largest.

A chunk that was found damaged is stored anew, so an id may stand in two segments. The newer place counts: that of a
later commit, and any commit's before a run's, which holds only what was committed before it was merged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import pyarrow as pa

from moraine.errors import MissingObject, ObjectNotFound
from moraine.model import compute as pc
from moraine.model.log import SegmentRef
from moraine.repository.keys import Keyring
from moraine.repository.membership import SortedIds, halves, sorted_ids
from moraine.repository.objects import Objects
from moraine.repository.tables import LOCATION, read_table
from moraine.stores.base import Store


class Index:
    """The committed chunks, as of the segments of a log state."""

    def __init__(self, store: Store | Objects, keyring: Keyring, segments: Sequence[SegmentRef]) -> None:
        self._objects = Objects.of(store)
        self._keyring = keyring
        self.segments = list(segments)  # in the order of the log
        self._known: list[SortedIds] | None = None

    def ahead(self) -> None:
        """All of it will be read soon: where the store is far away, the first segments are fetched from now on."""
        next(self._objects.walk(newest_first(self.segments)), None)

    def contains(self, ids: Sequence[bytes]) -> list[bool]:
        """For each 32-byte id whether a committed chunk has it. Reads the segments once."""
        if not ids or not self.segments:
            return [False] * len(ids)
        if self._known is None:
            self.ahead()
            self._known = [self._sorted_ids(run) for run in runs(self.segments)]
        high, low = halves(b"".join(ids))
        found = np.zeros(len(ids), dtype=bool)
        for known in self._known:
            found |= known.contains(high, low)
        answer: list[bool] = found.tolist()
        return answer

    def _sorted_ids(self, run: Sequence[SegmentRef]) -> SortedIds:
        parts = (self.load(segment, ["id"])["id"] for segment in self._objects.walk(run))
        return sorted_ids(parts, sum(segment.rows for segment in run))

    def locate(self, ids: pa.Array) -> pa.Table:
        """The places of chunks (LOCATION, one row per distinct id). Raises MissingObject for an unknown id."""
        wanted = pc.unique(ids)
        found: list[pa.Table] = []
        left = wanted
        for segment in self._objects.walk(newest_first(self.segments)):
            if not len(left):
                break
            table = self.load(segment)
            hits = pc.index_in(left, value_set=table["id"].combine_chunks())
            found.append(pc.take(table, pc.drop_null(hits)))
            left = pc.filter(left, pc.is_null(hits))
        if len(left):
            raise MissingObject(
                f"{len(left)} chunk{'s' * (len(left) != 1)} ({left[0].as_py().hex()[:16]}…) are in no index segment",
                hint="run `moraine check`",
            )
        return pa.concat_tables(found).unify_dictionaries() if found else LOCATION.empty_table()

    def load(self, segment: SegmentRef, columns: Sequence[str] | None = None) -> pa.Table:
        """One segment's rows. Raises MissingObject, DamagedObject."""
        try:
            data = self._objects.get(segment.key)
        except ObjectNotFound as error:
            raise MissingObject(
                f"index segment {segment.key} is gone",
                hint="restore it from a copy of the store; its rows also stand in the packs' trailers",
                object=segment.key,
            ) from error
        return read_table(data, key=segment.key, keyring=self._keyring, expect=segment.digest, columns=columns)


def newest_first(segments: Sequence[SegmentRef]) -> list[SegmentRef]:
    """Segments, given in the order of the log, in the order in which their places count.

    Of two runs the later one is the newer: a compaction merges the smallest runs and what it makes is smaller than
    those it leaves alone, so that these are older.
    """
    ordered = sorted(enumerate(segments), key=lambda item: (item[1].level > 0, -item[0]))
    return [segment for _, segment in ordered]


def runs(segments: Sequence[SegmentRef]) -> Iterator[list[SegmentRef]]:
    """The segments, those of one run together and in the order of their ids; each of level 0 is a run of its own."""
    ordered = sorted(segments, key=lambda segment: (segment.level, segment.first))
    for level, group in groupby(ordered, key=lambda segment: segment.level if segment.first else 0):
        if level:
            yield list(group)
        else:
            yield from ([segment] for segment in group)
