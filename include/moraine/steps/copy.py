"""copy: read what has changed, once, and store the chunks that are new.

The main thread reads, hashes and cuts; two threads compress and seal; one uploads. What a shard has done is journalled,
so a retry reads and uploads only what is missing.
"""

from __future__ import annotations

import pyarrow as pa

from moraine.engine.chunking import Chunking
from moraine.engine.known import KnownIds
from moraine.engine.plan import PlanShard
from moraine.errors import SourceError, SourceMissing, SourceUnmounted, SourceVanished
from moraine.model.entry import Kind, Op, State
from moraine.model.record import dataclass
from moraine.repository.packs import PackWriter
from moraine.repository.repository import Repository
from moraine.repository.sealing import ChunkWriter
from moraine.repository.sound import SoundIndex
from moraine.repository.work import Ref
from moraine.sources.base import Reader
from moraine.steps.copy_chunks import Membership, NewChunks
from moraine.steps.copy_files import Content, FileReader
from moraine.steps.copy_journal import Journal, pack_key
from moraine.steps.copy_parts import PartsOfRun
from moraine.steps.copy_rows import Rows, slices
from moraine.steps.run import Run
from moraine.steps.suspects import unhealed
from moraine.stores.ahead import NEAR, at_once

JOURNAL_BYTES = 512 << 20
JOURNAL_SECONDS = 300
JOURNAL_ROWS = 1 << 18

TOTALS = ("files", "bytes", "added_bytes", "stored_bytes", "racy", "vanished", "denied", "silent")


@dataclass(frozen=True, slots=True)
class Copied:
    """What one copy shard did; sizes in bytes."""

    shard: int
    outcome: Ref
    files: int  # read
    bytes: int  # read
    added_bytes: int  # new to the repository
    stored_bytes: int  # what those take, compressed and sealed
    racy: int
    vanished: int
    denied: int
    silent: int  # files whose content differs though nothing says they were changed: look at that disk


def copy_shard(run: Run, changes: Ref, shard: int, *, planned: PlanShard | None = None) -> Copied:
    """Copy the entries of one shard of the change set; `planned` is what progress is measured against.

    Raises:
        StoreFull, AccessDenied, StoreUnavailable: the store; what is uploaded is used by the next attempt.
        SourceMissing, SourceUnmounted: the source as a whole is gone. Single entries become rows with a state.
        SessionGone: the change set has been swept.
    """
    run.progress.start("copy", planned.files if planned else None, planned.bytes if planned else None)
    if planned and planned.bytes:
        run.repository.index.ahead()
    known = KnownIds()
    journal = Journal(run, changes, shard)
    journal.resume(known)
    with _writer(run, shard) as writer, run.source.reader() as reader:
        work = _Shard(run, journal, known, writer, reader)
        for piece in slices(run.work.load_pieces(changes, part=shard), shard, journal.done.rows):
            work.copy(piece)
        outcome = work.finish()
    run.progress.finish("copy")
    return Copied(shard, outcome, **journal.done.totals)


def _writer(run: Run, shard: int) -> ChunkWriter:
    repository = run.repository
    # Far away one connection is slow: two are used, and packs are halved so that this takes no more memory.
    far = at_once(repository.store) > NEAR
    packs = PackWriter(
        repository.store,
        repository.keyring,
        name=lambda: pack_key(run, shard),
        entropy=run.entropy,
        pack_size=repository.config.chunking.pack // (2 if far else 1),
        in_flight=2 if far else 1,
    )
    return ChunkWriter(packs, level=run.policy.compression.level, block_size=_chunking(run.repository).span)


def _held(run: Run) -> Membership:
    """What the repository holds; after a failed proof or drill only what can be read back."""
    failed = unhealed(run.repository, run.policy.policy, run.session.parent)
    return SoundIndex(run.repository) if failed else run.repository.index


def _chunking(repository: Repository) -> Chunking:
    sizes = repository.config.chunking
    return Chunking(
        minimum=sizes.minimum,
        average=sizes.average,
        maximum=sizes.maximum,
        fixed_disk=sizes.fixed_disk,
        fixed_lake=sizes.fixed_lake,
        seed=repository.keyring.chunk_seed,
    )


class _Shard:
    """One attempt at a shard: takes pieces of the change set, leaves result rows and packs."""

    def __init__(self, run: Run, journal: Journal, known: KnownIds, writer: ChunkWriter, reader: Reader) -> None:
        sizes, id_key = run.repository.config.chunking, run.repository.keyring.id_key
        self._run = run
        self._journal = journal
        self._writer = writer
        self._reader = reader
        held = _held(run)
        self._chunks = NewChunks(writer, held, known, id_key=id_key, small=sizes.small, bundle=sizes.bundle)
        self._files = FileReader(
            reader,
            self._chunks,
            writer,
            _chunking(run.repository),
            id_key=id_key,
            small=sizes.small,
            racy_window=run.policy.racy_window,
            now=lambda: run.clock().timestamp(),
            advance=self._advance,
            parts=PartsOfRun(run, held, known, self._save_inside, anew=journal.anew),
        )
        self._links: dict[tuple[int, int], Content] = {}
        self._done = journal.done.rows
        self._results: list[pa.Table] = []
        self._waiting = 0  # rows in `_results`
        self._told = 0  # bytes of this piece that progress knows of: those of large files, on the way
        self._saved_at = run.clock()
        self._totals = journal.done.totals or dict.fromkeys(TOTALS, 0)
        self._saved_bytes = self._totals["bytes"]

    def copy(self, piece: pa.Table) -> None:
        """Do one piece of the change set."""
        rows = self._rows = Rows(piece, self._run.session.id)
        self._taken = 0
        self._reader.expect(rows.wanted())
        before, self._told = self._totals["bytes"], 0
        for row in range(rows.count):
            self._row = row
            self._entry(rows, row)
            if self._totals["bytes"] - self._saved_bytes >= JOURNAL_BYTES:
                self._take(row + 1)
                self._save()
        self._take(rows.count)
        self._run.progress.advance(files=rows.count, bytes=max(self._totals["bytes"] - before - self._told, 0))
        if self._due():
            self._save()

    def finish(self) -> Ref:
        """Make everything durable; the outcome."""
        outcome = self._save(last=True)
        self._chunks.close()
        return outcome

    def _entry(self, rows: Rows, row: int) -> None:
        try:
            if rows.kind[row] == Kind.FILE and rows.read[row]:
                self._file(rows, row)
            else:
                found = self._reader.attributes(
                    rows.directory[row], rows.name[row], rows.kind[row], rows.uid[row], rows.gid[row]
                )
                rows.set_attributes(row, found)
        except (SourceMissing, SourceUnmounted):
            raise
        except SourceVanished:
            rows.set_unread(row, State.VANISHED)
        except SourceError:
            rows.set_unread(row, State.DENIED)

    def _file(self, rows: Rows, row: int) -> None:
        link = (rows.device[row], rows.inode[row]) if rows.nlink[row] > 1 else None
        if link in self._links:
            rows.set_content(row, self._links[link])
            return
        content = self._files.read(rows.directory[row], rows.name[row], rows.uid[row], rows.gid[row], rows.listed[row])
        self._totals["files"] += 1
        self._totals["bytes"] += content.size
        if rows.op[row] == Op.REHASH:
            if (content.digest, content.chunks) == rows.old_content(row):
                return
            self._totals["silent"] += content.state == State.OK
        rows.set_content(row, content)
        if link:
            self._links[link] = content

    def _advance(self, count: int) -> None:
        self._told += count
        self._run.progress.advance(bytes=count)

    def _take(self, stop: int) -> None:
        """The rows of this piece before `stop` are done."""
        rows, start, self._taken = self._rows, self._taken, stop
        if start == stop:
            return
        for name, state in (("racy", State.RACY), ("vanished", State.VANISHED), ("denied", State.DENIED)):
            self._totals[name] += rows.state[start:stop].count(state)
        self._results.append(rows.table().slice(start, stop - start))
        self._waiting += stop - start

    def _due(self) -> bool:
        passed = (self._run.clock() - self._saved_at).total_seconds()
        return self._waiting >= JOURNAL_ROWS or passed >= JOURNAL_SECONDS

    def _save_inside(self) -> None:
        """Save in the middle of a large file, with all rows before it."""
        self._take(self._row)
        self._save()

    def _save(self, *, last: bool = False) -> Ref:
        self._chunks.flush()
        packs = self._writer.drain()
        self._done += self._waiting
        results, self._results, self._waiting = self._results, [], 0
        self._saved_at, self._saved_bytes = self._run.clock(), self._totals["bytes"]
        return self._journal.save(self._done, self._totals, results, packs, last=last)
