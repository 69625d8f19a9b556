"""Restored files read again and compared with what the snapshot says of them, chunk by chunk."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from moraine.model.entry import Kind, join_path
from moraine.model.progress import NoProgress, Progress
from moraine.model.record import dataclass
from moraine.repository.repository import Repository
from moraine.sources.target import Code, Content, Notes, Target, TargetReader
from moraine.steps.mirror_verify import difference
from moraine.steps.restore_content import Pieces, find_pieces
from moraine.steps.restore_judge import HERE, LINK
from moraine.steps.restore_plan import RestorePlan, planned
from moraine.steps.restore_rows import Window

COLUMNS = ("dir", "name", "kind", "size", "extents", "digest", "chunks")


@dataclass(frozen=True, slots=True)
class Verified:
    """What was read again; `notes` names the files that differ, by code `differs`."""

    files: int
    bytes: int
    notes: Notes


def verify_restored(
    repository: Repository,
    target: Target,
    rows: pa.Table,
    *,
    notes: Notes | None = None,
    progress: Progress | None = None,
) -> Verified:
    """Compare files of a target with their rows.

    Args:
        repository: where the rows come from; only its index is read, no pack.
        target: where the files are.
        rows: manifest rows (at least COLUMNS); what is no file or has no digest is passed over.
        notes: takes what differs.
        progress: told of files and bytes.
    """
    notes, progress = notes or Notes(), progress or NoProgress()
    window = Window(rows)
    window = window.take((window.kind == Kind.FILE) & window.valid("digest"))
    files = size = 0
    if repository.mirror:
        return _verify_whole(repository, target, window.table, notes, progress)
    if len(window):
        pieces = find_pieces(window, repository.index, repository.keyring.chunk_id(b""))
        with target.reader() as reader:
            for row, ids, sizes in _files(window, pieces):
                read = _compare(reader, window, row, ids, sizes, repository, notes)
                files, size = files + 1, size + read
                progress.advance(files=1, bytes=read)
    return Verified(files, size, notes)


def _verify_whole(
    repository: Repository, target: Target, table: pa.Table, notes: Notes, progress: Progress
) -> Verified:
    """As `verify_restored`, of a mirror: its files are not cut."""
    size = 0
    with target.reader() as reader:
        for row in table.select(COLUMNS).to_pylist():
            wrong = difference(row, reader.open, repository)
            if wrong:
                notes.add(Code.DIFFERS, join_path(row["dir"], row["name"]), f"{wrong} in the target")
            size += row["size"]
            progress.advance(files=1, bytes=row["size"])
    return Verified(table.num_rows, size, notes)


def verify_plan(plan: RestorePlan, repository: Repository, target: Target, notes: Notes, progress: Progress) -> int:
    """Compare everything a plan has restored or found in place; the number of files read."""
    progress.start("verify", None, None)
    files = 0
    for window, verdicts in planned(plan, repository, COLUMNS):
        here = np.isin(verdicts, HERE) & (verdicts & LINK == 0)
        if here.any():
            rows = window.table.filter(pa.array(here))
            files += verify_restored(repository, target, rows, notes=notes, progress=progress).files
    progress.finish("verify")
    return files


def _files(window: Window, pieces: Pieces) -> Iterator[tuple[int, list[bytes], list[int]]]:
    """Every file with the ids and sizes of its chunks in order; files without stored bytes have none."""
    order = np.lexsort((pieces.offset, pieces.file))
    file, place = pieces.file[order], pieces.place[order]
    sizes = pieces.locations["size"].to_numpy()[place].tolist()
    ids = pieces.locations["id"].combine_chunks().take(pa.array(place)).to_pylist()
    first = np.searchsorted(file, np.arange(len(window) + 1)).tolist()
    gone = set(pieces.lost.tolist())
    for row in range(len(window)):
        if row not in gone:
            span = slice(first[row], first[row + 1])
            yield row, ids[span], sizes[span]


def _compare(
    reader: TargetReader, window: Window, row: int, ids: Sequence[bytes], sizes: Sequence[int],
    repository: Repository, notes: Notes,
) -> int:  # fmt: skip
    directory, name = window.directories[window.number[row]], window.names[row].as_py()
    path = join_path(directory, name)
    content = reader.open(directory, name)
    if content is None:
        notes.add(Code.DIFFERS, path, "cannot be read in the target")
        return 0
    try:
        size = window.table["size"][row].as_py()
        if content.size != size:
            notes.add(Code.DIFFERS, path, f"has {content.size} bytes in the target, {size} in the snapshot")
            return 0
        spans = _spans(size, window.table["extents"][row].as_py())
        for number, chunk in enumerate(_chunks(content, spans, sizes)):
            if repository.keyring.chunk_id(chunk) != ids[number]:
                notes.add(Code.DIFFERS, path, f"has other content in the target, from chunk {number} on")
                break
        return sum(sizes)
    finally:
        content.close()


def _spans(size: int, extents: bytes | None) -> list[tuple[int, int]]:
    return [(0, size)] if extents is None else list(struct.iter_unpack("<qq", extents))


def _chunks(content: Content, spans: Sequence[tuple[int, int]], sizes: Sequence[int]) -> Iterator[memoryview]:
    """The stored bytes of a file, cut as its chunks were; a chunk that the file is too short for is empty."""
    buffer = memoryview(bytearray(max(sizes, default=0)))
    waiting = iter(spans)
    offset = left = 0
    for size in sizes:
        filled = 0
        while filled < size:
            if not left:
                offset, left = next(waiting, (0, 0))
                if not left:
                    break
            count = content.read_at(offset, buffer[filled : filled + min(left, size - filled)])
            if not count:
                break
            filled, offset, left = filled + count, offset + count, left - count
        yield buffer[:filled]
