"""Checks packs: there, whole by their trailers, what the index says of them, and as much of their content as asked.

Memory: 8 bytes for each stored chunk, besides one batch of packs.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from heapq import nsmallest
from math import ceil

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from blake3 import blake3

from moraine.model import compute as pc
from moraine.model.progress import Progress
from moraine.model.record import dataclass
from moraine.repository import layout
from moraine.repository.chunks import Lost
from moraine.repository.index import Index
from moraine.repository.repository import Repository
from moraine.repository.tables import compacted
from moraine.steps.check_content import Marks, PackLook, Seen, to_marks
from moraine.steps.check_findings import Findings, Problem
from moraine.stores.ahead import NEAR, at_once

_THREADS = 8  # trailers read at once: each is two small requests

_FAR = 4  # packs of a store that is far away read at once
_ID = pa.binary(32)


@dataclass(slots=True)
class _Pack:
    """What is known of one pack."""

    number: int
    size: int = -1  # in the store; -1: not there
    end: int = 0  # of the last frame the index knows
    trailer: bool = False
    problem: Problem | None = None
    lost: list[pa.Array] = field(default_factory=list)  # ids that cannot be read; all of them when nothing can


def check_packs(
    repository: Repository,
    index: Index,
    findings: Findings,
    *,
    share: float,
    seed: bytes,
    readers: int,
    progress: Progress,
) -> None:
    """Look at every pack that the index names, and read this share of them to the last byte.

    Args:
        repository: the repository.
        index: its readable segments.
        findings: takes what is found.
        share: of packs to read, 0 to 1.
        seed: decides which: another seed, another share.
        readers: packs read at once.
        progress: told of bytes read.
    """
    check = _Check(repository, index, findings, progress)
    check.list_packs()
    check.look(share, seed, readers)
    check.compare()


class _Check:
    def __init__(self, repository: Repository, index: Index, findings: Findings, progress: Progress) -> None:
        self._repository = repository
        self._index = index
        self._findings = findings
        self._progress = progress
        self._packs: dict[str, _Pack] = {}
        self._marks: list[Marks] = []
        self._locked = False  # this key may not open packs

    def list_packs(self) -> None:
        """Which packs there should be, and which there are."""
        for segment in self._index.segments:
            table = self._index.load(segment, ["pack", "offset", "length"])
            names = _names(table)
            ends = np.zeros(len(names.dictionary), np.int64)
            end = table["offset"].to_numpy().astype(np.int64) + table["length"].to_numpy()
            np.maximum.at(ends, np.asarray(names.indices), end)
            for key, last in zip(names.dictionary.to_pylist(), ends.tolist(), strict=True):
                pack = self._packs.setdefault(key, _Pack(len(self._packs)))
                pack.end = max(pack.end, last)
        orphans = orphan_bytes = 0
        for info in self._repository.store.list(layout.PACKS):
            if info.key in self._packs:
                self._packs[info.key].size = info.size
            else:
                orphans, orphan_bytes = orphans + 1, orphan_bytes + info.size
        self._findings.count("packs", len(self._packs))
        self._findings.count("pack_bytes", sum(max(pack.size, 0) for pack in self._packs.values()))
        self._findings.count("orphan_packs", orphans)
        if orphans:
            message = f"{orphans} packs ({orphan_bytes} bytes) are in no index: of a run under way, or left by one"
            self._findings.note("orphan-packs", message)

    def look(self, share: float, seed: bytes, readers: int) -> None:
        """Trailers of all packs, content of some."""
        there = []
        for key, pack in self._packs.items():
            if pack.size < 0:
                self._fault(key, "pack-missing", "is gone")
            else:
                there.append(key)
                if pack.size < pack.end:
                    self._fault(key, "pack-damaged", f"has {pack.size} bytes, the index knows content up to {pack.end}")
        # That share exactly, rounded up: who asks for 10 % of three packs wants one read, not perhaps none.
        chosen = set(nsmallest(ceil(share * len(there)), there, key=lambda key: _drawn(key, seed)))
        self._progress.start("check", len(there), sum(self._packs[key].size for key in chosen))
        found = []
        for seen in self._looked(there, chosen, readers):
            self._progress.advance(files=1, bytes=self._packs[seen.key].size if seen.key in chosen else 0)
            found.append(seen)
        for seen in sorted(found, key=lambda seen: self._packs[seen.key].number):
            self._take(seen)
        self._findings.count("packs_read", len(chosen) if not self._locked else 0)
        self._progress.finish("check")
        if self._locked:
            self._findings.note(
                "packs-locked", "this key cannot open packs: of their content only that it is there was checked"
            )

    def compare(self) -> None:
        """What the index says of packs against their trailers; and which of its chunks are lost."""
        known = np.sort(np.concatenate(self._marks)) if self._marks else np.empty(0, np.uint64)
        for segment in self._index.segments:
            self._compare_marks(self._index.load(segment), known)
        faulty = pa.array([key for key, pack in self._packs.items() if pack.problem], pa.string())
        for segment in self._index.segments if len(faulty) else ():
            table = self._index.load(segment)
            self._lose(table.filter(pc.is_in(table["pack"].cast(pa.string()), value_set=faulty)))

    def _looked(self, there: list[str], chosen: set[str], readers: int) -> Iterator[Seen]:
        """Every pack, in any order."""
        packs = PackLook(self._repository)

        def look(number: int) -> Seen:
            key = there[number]
            pack = self._packs[key]
            return packs.look(key, pack.number, pack.size, content=key in chosen)

        if at_once(self._repository.store) > NEAR:  # more of them wait than work
            readers = max(readers, _FAR)
        pool = ThreadPoolExecutor(readers if chosen else _THREADS, thread_name_prefix="look")
        try:
            yield from pool.map(look, range(len(there)))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _take(self, seen: Seen) -> None:
        pack = self._packs[seen.key]
        self._locked |= seen.locked
        if seen.marks is not None:
            pack.trailer = True
            self._marks.append(seen.marks)
        if seen.fault:
            self._fault(seen.key, *seen.fault)
        if seen.chunks or seen.lost:
            self._findings.count("bytes_read", seen.bytes)
            self._findings.count("chunks_read", seen.chunks)
        pack.lost += [pa.array([ids[at : at + 32] for at in range(0, len(ids), 32)], _ID) for ids in seen.lost]

    def _read(self, rows: pa.Table, pack: _Pack) -> None:
        """Read chunks of a pack without a trailer from where the index says that they are."""

        def lost(found: Lost) -> None:
            pack.lost.append(rows["id"].combine_chunks().take(pa.array(found.rows)))

        for opened in self._repository.chunks.read(rows, lost=lost):
            self._findings.count("bytes_read", len(opened.data))
            self._findings.count("chunks_read", len(opened.rows))
            opened.release()

    def _compare_marks(self, table: pa.Table, known: Marks) -> None:
        names = _names(table)
        packs = [self._packs[key] for key in names.dictionary.to_pylist()]
        which = np.asarray(names.indices)
        marks = _marks(table, np.array([pack.number for pack in packs], np.uint64)[which])
        at = np.searchsorted(known, marks)
        there = np.zeros(len(marks), bool)
        inside = at < len(known)
        there[inside] = known[at[inside]] == marks[inside]
        wrong = ~there & np.array([pack.trailer for pack in packs], bool)[which]
        for number in np.unique(which[wrong]).tolist() if wrong.any() else ():
            rows = np.flatnonzero(wrong & (which == number))
            key = names.dictionary[number].as_py()
            self._fault(key, "index-wrong", f"{len(rows)} chunks are not where the index says")
            packs[number].lost.append(table["id"].combine_chunks().take(pa.array(rows)))

    def _lose(self, table: pa.Table) -> None:
        """Charge faulty packs with those of their chunks that the index would send a reader for, in vain."""
        names = table["pack"].cast(pa.string())
        for key in pc.unique(names).to_pylist():
            pack = self._packs[key]
            rows = self._still_placed(table.filter(pc.equal(names, key)), key)
            assert pack.problem
            if pack.size < 0:
                self._findings.lose(pack.problem, rows["id"].combine_chunks())
                continue
            if not pack.trailer and not self._locked:  # the frames may be whole: the index still finds them
                self._read(rows, pack)
            gone = pa.concat_arrays([pa.array([], _ID), *pack.lost])
            self._findings.lose(
                pack.problem, rows["id"].combine_chunks().filter(pc.is_in(rows["id"].combine_chunks(), gone))
            )

    def _still_placed(self, rows: pa.Table, pack: str) -> pa.Table:
        """Those of a pack's chunks that the index has nowhere else: a chunk found damaged may be stored anew."""
        places = self._index.locate(rows["id"].combine_chunks())
        here = places.filter(pc.equal(places["pack"].cast(pa.string()), pack))["id"].combine_chunks()
        return rows.filter(pc.is_in(rows["id"].combine_chunks(), value_set=here))

    def _fault(self, key: str, code: str, message: str) -> None:
        """The first thing wrong with a pack stands for all."""
        pack = self._packs[key]
        if pack.problem is None:
            pack.problem = self._findings.add(code, key, message)


def _drawn(key: str, seed: bytes) -> float:
    """A number from 0 up to 1 that a key and a seed decide."""
    return int.from_bytes(blake3(seed + key.encode()).digest(6), "big") / (1 << 48)


def _names(table: pa.Table) -> pa.DictionaryArray:
    """The packs of an index's rows; a segment may still name some of which no row is left."""
    names = compacted(table.select(["pack"]))["pack"].combine_chunks()
    return names if pa.types.is_dictionary(names.type) else names.dictionary_encode()


def _marks(table: pa.Table, packs: npt.NDArray[np.integer]) -> Marks:
    ids = table["id"].combine_chunks()
    raw = memoryview(ids.buffers()[1])[32 * ids.offset : 32 * (ids.offset + len(ids))]
    return to_marks(raw, packs, *(table[name].to_numpy() for name in ("offset", "length", "at", "size")))
