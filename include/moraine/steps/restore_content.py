"""Content of files on its way from packs into a target: each frame is read once, its files are written as it passes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import field, replace
from functools import partial

import numpy as np
import pyarrow as pa

from moraine.errors import MissingObject
from moraine.model import compute as pc
from moraine.model.progress import Progress
from moraine.model.record import dataclass
from moraine.repository.chunks import ChunkReader, Lost, Opened
from moraine.repository.index import Index
from moraine.repository.repository import Repository
from moraine.repository.tables import LOCATION
from moraine.sources.posix_target_writer import PosixWriter
from moraine.sources.target import Code, TargetWriter
from moraine.steps.processes import may_fork
from moraine.steps.restore_judge import Verdicts
from moraine.steps.restore_processes import write_in_processes
from moraine.steps.restore_rows import Numbers, Window, distinct, flat

SHARE_UNIT = 32 << 20  # bytes of work that stay together when it is spread over processes
_PER_FILE = 20 << 10  # making a file takes as long as writing so many bytes
_NO_DATA = memoryview(b"")


@dataclass(frozen=True, slots=True)
class Pieces:
    """Which chunk goes where: element i is a piece of a file. Sorted by `place`."""

    file: Numbers  # row of the window
    place: Numbers  # row of `locations`
    offset: Numbers  # in the stored bytes of the file
    locations: pa.Table  # LOCATION, one row for each chunk
    first: Numbers  # the pieces of place p are first[p] … first[p + 1]
    lost: Numbers  # files with a chunk that no index has


def stored_files(window: Window, keyed_empty: bytes) -> tuple[Numbers, Numbers]:
    """Rows whose digest is the id of their only chunk, and rows without stored bytes; what has a list is neither."""
    single = ~window.valid("chunks")
    nothing = pc.equal(flat(window.table["digest"]), pa.scalar(keyed_empty, pa.binary(32)))
    empty = np.asarray(pc.coalesce(nothing, pa.scalar(False))) & single
    return np.flatnonzero(single & ~empty & window.valid("digest")), np.flatnonzero(empty)


def find_pieces(window: Window, index: Index, keyed_empty: bytes) -> Pieces:
    """The pieces of all files of a window (every row a file with content)."""
    single, _ = stored_files(window, keyed_empty)
    lists = window.table["chunks"].combine_chunks()
    alone = pc.take(flat(window.table["digest"]), pc.from_numpy(single))
    ids = pa.concat_arrays([alone, flat(pc.list_flatten(lists))])
    file = np.concatenate([single, np.asarray(flat(pc.list_parent_indices(lists)), dtype=np.int64)])
    known, locations = locate(index, pc.unique(ids))
    place = np.asarray(pc.coalesce(pc.index_in(ids, value_set=known), pa.scalar(-1, pa.int32()))).astype(np.int64)
    lost = distinct(file[place < 0])
    whole = ~np.isin(file, lost)
    file, place = file[whole], place[whole]
    size = locations["size"].to_numpy().astype(np.int64)[place]
    offset = _offsets(file, size)
    order = np.argsort(place, kind="stable")
    first = np.searchsorted(place[order], np.arange(locations.num_rows + 1))
    return Pieces(file[order], place[order], offset[order], locations, first, lost)


def locate(index: Index, ids: pa.Array) -> tuple[pa.Array, pa.Table]:
    """The ids that an index has, and their places, row by row; the others are left out."""
    if not len(ids):
        return ids, LOCATION.empty_table()
    try:
        table = index.locate(ids)
    except MissingObject:
        ids = pc.filter(ids, pa.array(index.contains(ids.to_pylist())))
        table = index.locate(ids)
    return table["id"].combine_chunks(), table


@dataclass(slots=True)
class ContentWriter:
    """Writes the content of a window's files into a target."""

    repository: Repository
    writer: TargetWriter
    progress: Progress
    processes: int = 1  # that share the work where forking is safe
    _turn: threading.Lock = field(default_factory=threading.Lock)  # to count and to tell
    _before: int = 0  # rows of windows written before: numbers of large files are never used twice

    def write(self, window: Window, verdicts: Verdicts) -> None:
        """Write files; every row of the window is one to be written."""
        keyed_empty = self.repository.keyring.chunk_id(b"")
        _, empty = stored_files(window, keyed_empty)
        if len(empty):
            zeros = [0] * len(empty)
            self.writer.files(window.rows(empty, verdicts), _NO_DATA, zeros, zeros)
            self.progress.advance(files=len(empty))
        pieces = find_pieces(window, self.repository.index, keyed_empty)
        for row in pieces.lost.tolist():
            self._note_lost(window, row, "a chunk of it is in no index")
        counts = np.bincount(pieces.file, minlength=len(window))
        self._pass_on_in_parts(window, verdicts, pieces, counts)
        self._before += len(window)

    def _pass_on_in_parts(self, window: Window, verdicts: Verdicts, pieces: Pieces, counts: Numbers) -> None:
        chunks = self.repository.chunks
        if self.processes > 1 and isinstance(self.writer, PosixWriter) and may_fork(self.repository.store):
            parts = shares(pieces, counts, self.processes)
            if len(parts) > 1:
                workers = threads(parts, self.processes)
                readers = [chunks.part(number, sum(workers)) for number in workers]
                work = [
                    partial(self._share, window, verdicts, part, counts, reader)
                    for part, reader in zip(parts, readers, strict=True)
                ]
                write_in_processes(work, self.writer, self.progress)
                return
        reader = chunks.part(self.processes, self.processes) if self.processes > 1 else chunks
        self._pass_on(window, verdicts, pieces, counts, reader)

    def _share(
        self, window: Window, verdicts: Verdicts, pieces: Pieces, counts: Numbers, reader: ChunkReader, told: Progress
    ) -> None:
        """As `_pass_on`, in a process that was forked for it."""
        replace(self, progress=told)._pass_on(window, verdicts, pieces, counts, reader)

    def _pass_on(
        self, window: Window, verdicts: Verdicts, pieces: Pieces, counts: Numbers, reader: ChunkReader
    ) -> None:
        left = counts.copy()
        noted: dict[int, str] = {}

        def take(opened: Opened) -> None:
            self._whole(window, verdicts, some, counts, opened)
            self._parts(window, verdicts, some, counts, left, opened)
            opened.release()

        def lost(found: Lost) -> None:
            number, _ = _expand(some.first, found.rows)
            for row in distinct(some.file[number]).tolist():
                self.writer.abandon(self._before + row)
                noted[row] = min(noted.get(row, found.error.message), found.error.message)

        for some in _in_turns(pieces, counts, self.writer.span):
            if self.writer.span is None:
                reader.each(some.locations, take, lost=lost)
            else:
                for opened in reader.read(some.locations, lost=lost):
                    take(opened)
        for row, why in sorted(noted.items()):
            self._note_lost(window, row, why)

    def _whole(self, window: Window, verdicts: Verdicts, pieces: Pieces, counts: Numbers, opened: Opened) -> None:
        """The files of a frame that are one chunk, all together."""
        number, chunk = _expand(pieces.first, opened.rows)
        file = pieces.file[number]
        whole = counts[file] == 1
        if whole.any():
            at, size = opened.at[chunk[whole]], opened.size[chunk[whole]]
            self.writer.files(window.rows(file[whole], verdicts), opened.data, at.tolist(), size.tolist())
            with self._turn:
                self.progress.advance(files=len(at), bytes=int(size.sum()))

    def _parts(
        self, window: Window, verdicts: Verdicts, pieces: Pieces, counts: Numbers, left: Numbers, opened: Opened
    ) -> None:
        """The pieces of larger files in a frame, one by one; `left` counts down the pieces of each file."""
        number, chunk = _expand(pieces.first, opened.rows)
        for i in np.flatnonzero(counts[pieces.file[number]] > 1).tolist():
            piece, row = int(number[i]), int(pieces.file[number[i]])
            start = int(opened.at[chunk[i]])
            data = opened.data[start : start + int(opened.size[chunk[i]])]
            known = self._before + row
            if not self.writer.begun(known):
                self.writer.begin(known, window.rows(pieces.file[piece : piece + 1], verdicts), int(counts[row]))
            self.writer.write(known, int(pieces.offset[piece]), data)
            with self._turn:
                left[row] -= 1
                self.progress.advance(files=int(left[row] == 0), bytes=len(data))

    def _note_lost(self, window: Window, row: int, why: str) -> None:
        self.writer.notes.add(Code.DAMAGED, window.path(row), f"not restored: {why}")


def shares(pieces: Pieces, counts: Numbers, processes: int) -> list[Pieces]:
    """The pieces in at most so many parts of about equal work, each file whole in one; one part where it is little.

    What begins in one frame stays together, and so do neighbouring frames: few are read by two processes.
    """
    if not len(pieces.file):
        return [pieces]
    frame = _frames(pieces.locations)[pieces.place]
    begins = np.full(len(counts), np.iinfo(np.int64).max)  # the frame that a file begins in
    np.minimum.at(begins, pieces.file, frame)
    size = pieces.locations["size"].to_numpy().astype(np.int64)[pieces.place]
    work = np.bincount(begins[pieces.file], weights=size + _PER_FILE / counts[pieces.file])
    _, unit = np.unique((np.cumsum(work) - work) // SHARE_UNIT, return_inverse=True)
    loads = [0.0] * processes
    owners = []
    for load in np.bincount(unit, weights=work).tolist():
        owner = loads.index(min(loads))
        loads[owner] += load
        owners.append(owner)
    owner_of = np.array(owners)[unit[begins[pieces.file]]]
    chosen = [np.flatnonzero(owner_of == number) for number in range(processes)]
    parts = [part for part in chosen if len(part)]
    return [_some(pieces, part) for part in parts] if len(parts) > 1 else [pieces]


def threads(parts: Sequence[Pieces], cores: int) -> list[int]:
    """How many threads each part gets: at least one, and more where it has much of the work and is done last."""
    work = [float(part.locations["size"].to_numpy().sum()) for part in parts]
    return [max(1, round(cores * size / max(1.0, sum(work)))) for size in work]


def _frames(locations: pa.Table) -> Numbers:
    """The number of each place's frame, in an order in which neighbours in a pack are neighbours."""
    pack = locations.select(["pack"]).unify_dictionaries().combine_chunks()["pack"].chunk(0).indices
    keys = np.stack([np.asarray(pack).astype(np.int64), locations["offset"].to_numpy().astype(np.int64)], axis=1)
    numbers: Numbers = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
    return numbers


def _in_turns(pieces: Pieces, counts: Numbers, span: int | None) -> Iterator[Pieces]:
    """All pieces at once; or whole files first, then large ones front to back, about `span` bytes at a time."""
    several = counts[pieces.file] > 1
    if span is None or not several.any():
        yield pieces
        return
    if not several.all():
        yield _some(pieces, np.flatnonzero(~several))
    large = np.flatnonzero(several)
    large = large[np.lexsort((pieces.offset[large], pieces.file[large]))]
    size = pieces.locations["size"].to_numpy().astype(np.int64)[pieces.place[large]]
    turn = (np.cumsum(size) - size) // span
    for part in np.split(large, np.flatnonzero(np.diff(turn)) + 1):
        yield _some(pieces, part)


def _some(pieces: Pieces, chosen: Numbers) -> Pieces:
    """Some of the pieces, with the places that they need."""
    places, place = np.unique(pieces.place[chosen], return_inverse=True)
    order = np.argsort(place, kind="stable")
    chosen, place = chosen[order], place[order]
    first = np.searchsorted(place, np.arange(len(places) + 1))
    locations = pc.take(pieces.locations, pc.from_numpy(places))
    return Pieces(pieces.file[chosen], place, pieces.offset[chosen], locations, first, pieces.lost)


def _expand(first: Numbers, places: Numbers) -> tuple[Numbers, Numbers]:
    """The numbers of all pieces at these places, and for each the position of its place."""
    begin, count = first[places], first[places + 1] - first[places]
    which = np.repeat(np.arange(len(places)), count)
    ends = np.cumsum(count)
    numbers: Numbers = np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - count - begin, count)
    return numbers, which


def _offsets(file: Numbers, size: Numbers) -> Numbers:
    """Where each piece starts in its file; pieces of one file stand together, in order."""
    before = np.cumsum(size) - size
    if not len(file):
        return before
    fresh = np.ones(len(file), bool)
    fresh[1:] = file[1:] != file[:-1]
    offset: Numbers = before - before[np.flatnonzero(fresh)][np.cumsum(fresh) - 1]
    return offset
