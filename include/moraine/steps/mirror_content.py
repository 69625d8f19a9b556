"""The content of a mirror's files for a restore: from the tree, or from the trash once the tree has another version.

Which of them a snapshot means is told by the digest alone, so what a restore brings back is what was mirrored then, or
it is named as lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import field
from datetime import datetime
from typing import Any

import numpy as np

from moraine.errors import MoraineError
from moraine.model.progress import Progress
from moraine.model.record import dataclass
from moraine.proof.rehash import content_digest, stored_spans
from moraine.repository.repository import Repository
from moraine.sources.mirror import LookAt, Mirror, trash_time
from moraine.sources.target import Code, Content, TargetWriter
from moraine.steps.restore_judge import Verdicts
from moraine.steps.restore_rows import Window

_SMALL = 8 << 20  # bytes: read once, into memory, hashed there
_BATCH = 16 << 20  # bytes of small files written together
_PIECE = 4 << 20


@dataclass(slots=True)
class MirrorContent:
    """Writes the content of a window's files into a target (`ContentWriter` does it for a repository)."""

    repository: Repository
    mirror: Mirror
    writer: TargetWriter
    progress: Progress
    since: datetime  # when the snapshot was taken: older trashes cannot hold what it means
    _before: int = 0

    def write(self, window: Window, verdicts: Verdicts) -> None:
        """Write files; every row of the window is one to be written."""
        rows = window.table.select(["dir", "name", "size", "extents", "digest"])
        with ExitStack() as stack:
            places = _Places(self.mirror, self.since, stack)
            batch = _Batch()
            for number, row in enumerate(_each(rows)):
                self._one(window, verdicts, number, row, places, batch)
                if batch.size >= _BATCH:
                    self._put(window, verdicts, batch)
            self._put(window, verdicts, batch)
        self._before += len(window)

    def _one(
        self, window: Window, verdicts: Verdicts, number: int, row: dict[str, Any], places: _Places, batch: _Batch
    ) -> None:
        spans = stored_spans(row["size"], row["extents"])
        stored = sum(length for _, length in spans)
        key = self.repository.keyring.id_key
        for content in places.candidates(row):
            try:
                if stored <= _SMALL:
                    data = bytearray(stored)
                    if (
                        _fill(content, spans, memoryview(data))
                        and self.repository.keyring.chunk_id(data) == row["digest"]
                    ):
                        batch.add(number, data)
                        return
                elif content_digest(content.read_at, spans, [stored], id_key=key) == row["digest"]:
                    self._large(window, verdicts, number, content, spans, stored)
                    return
            finally:
                content.close()
        why = "not restored: neither the mirror nor its trash has the content any more that the snapshot means"
        self.writer.notes.add(Code.DAMAGED, window.path(number), why)

    def _put(self, window: Window, verdicts: Verdicts, batch: _Batch) -> None:
        if not batch.numbers:
            return
        ends = np.cumsum(batch.sizes).tolist()
        at = [end - size for end, size in zip(ends, batch.sizes, strict=True)]
        rows = window.rows(np.array(batch.numbers), verdicts)
        self.writer.files(rows, memoryview(b"".join(batch.parts)), at, batch.sizes)
        self.progress.advance(files=len(at), bytes=batch.size)
        batch.clear()

    def _large(
        self,
        window: Window,
        verdicts: Verdicts,
        number: int,
        content: Content,
        spans: list[tuple[int, int]],
        stored: int,
    ) -> None:
        known = self._before + number
        buffer = memoryview(bytearray(_PIECE))
        self.writer.begin(known, window.rows(np.array([number]), verdicts), -(-stored // _PIECE))
        for at in range(0, stored, _PIECE):
            piece = buffer[: min(_PIECE, stored - at)]
            if not _fill(content, spans, piece, at):
                self.writer.abandon(known)
                self.writer.notes.add(Code.DAMAGED, window.path(number), "not restored: it changed while it was read")
                return
            self.writer.write(known, at, piece)
            self.progress.advance(bytes=len(piece))
        self.progress.advance(files=1)


@dataclass(slots=True)
class _Batch:
    """Small files on their way."""

    numbers: list[int] = field(default_factory=list)
    parts: list[bytearray] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    size: int = 0

    def add(self, number: int, data: bytearray) -> None:
        self.numbers.append(number)
        self.parts.append(data)
        self.sizes.append(len(data))
        self.size += len(data)

    def clear(self) -> None:
        self.numbers, self.parts, self.sizes, self.size = [], [], [], 0


class _Places:
    """Where a file's content may be: the tree, then the trashes of later runs, oldest first; opened when needed."""

    def __init__(self, mirror: Mirror, since: datetime, stack: ExitStack) -> None:
        self._mirror = mirror
        self._stack = stack
        self._since = since.replace(microsecond=0)
        self._tree = stack.enter_context(mirror.reader())
        self._trashes: list[LookAt] | None = None

    def candidates(self, row: dict[str, Any]) -> Iterator[Content]:
        """Files of the row's path and size; the taker closes them."""
        yield from self._found(self._tree, row)
        if self._trashes is None:
            names = [n for n in self._mirror.trashes() if (at := trash_time(n)) is not None and at >= self._since]
            self._trashes = [self._stack.enter_context(self._mirror.trash(name)) for name in names]
        for look in self._trashes:
            yield from self._found(look, row)

    def _found(self, look: LookAt, row: dict[str, Any]) -> Iterator[Content]:
        try:
            content = look(row["dir"], row["name"])
        except (OSError, MoraineError):
            return
        if content is None:
            return
        if content.size == row["size"]:
            yield content
        else:
            content.close()


def _each(table: Any) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=4096):
        yield from batch.to_pylist()


def _fill(content: Content, spans: list[tuple[int, int]], view: memoryview, skip: int = 0) -> bool:
    """The stored bytes from `skip` on; False when the file is too short."""
    done = 0
    for offset, length in spans:
        passed = min(skip, length)
        skip -= passed
        count = min(length - passed, len(view) - done)
        if count and content.read_at(offset + passed, view[done : done + count]) < count:
            return False
        done += count
        if done == len(view):
            break
    return done == len(view)
