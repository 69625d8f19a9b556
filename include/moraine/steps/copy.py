"""copy: read what has changed, once, and store the chunks that are new.

The main thread reads, hashes and cuts; two threads compress and seal; one uploads. What a shard has done is journalled,
so a retry reads and uploads only what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from moraine.engine.chunking import Chunking
from moraine.engine.known import KnownIds
from moraine.engine.plan import PlanShard
from moraine.errors import SourceError, SourceMissing, SourceUnmounted, SourceVanished
from moraine.model.entry import Kind, Op, State
from moraine.repository.packs import PackWriter
from moraine.repository.repository import Repository
from moraine.repository.sealing import ChunkWriter
from moraine.repository.sound import SoundIndex
from moraine.repository.work import Ref
from moraine.sources.base import Reader
from moraine.steps.copy_chunks import Membership, NewChunks
from moraine.steps.copy_files import Content, FileReader
from moraine.steps.copy_journal import Journal, pack_key
from moraine.steps.copy_rows import Rows, slices
from moraine.steps.run import Run
from moraine.steps.suspects import unhealed

JOURNAL_PACKS = 64
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
    packs = PackWriter(
        repository.store,
        repository.keyring,
        name=lambda: pack_key(run, shard),
        entropy=run.entropy,
        pack_size=repository.config.chunking.pack,
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
        self._chunks = NewChunks(writer, _held(run), known, id_key=id_key, small=sizes.small, bundle=sizes.bundle)
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
        )
        self._links: dict[tuple[int, int], Content] = {}
        self._done = journal.done.rows
        self._results: list[pa.Table] = []
        self._waiting = 0  # rows in `_results`
        self._told = 0  # bytes of this piece that progress knows of: those of large files, on the way
        self._saved_at = run.clock()
        self._saved_packs = 0
        self._totals = journal.done.totals or dict.fromkeys(TOTALS, 0)

    def copy(self, piece: pa.Table) -> None:
        """Do one piece of the change set."""
        rows = Rows(piece, self._run.session.id)
        self._reader.expect(rows.wanted())
        before, self._told = self._totals["bytes"], 0
        for row in range(rows.count):
            self._entry(rows, row)
        for name, state in (("racy", State.RACY), ("vanished", State.VANISHED), ("denied", State.DENIED)):
            self._totals[name] += rows.state.count(state)
        self._results.append(rows.table())
        self._waiting += rows.count
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

    def _due(self) -> bool:
        return (
            self._writer.packs_written - self._saved_packs >= JOURNAL_PACKS
            or self._waiting >= JOURNAL_ROWS
            or (self._run.clock() - self._saved_at).total_seconds() >= JOURNAL_SECONDS
        )

    def _save(self, *, last: bool = False) -> Ref:
        self._chunks.flush()
        packs = self._writer.drain()
        self._done += self._waiting
        results, self._results, self._waiting = self._results, [], 0
        self._saved_at, self._saved_packs = self._run.clock(), self._writer.packs_written
        return self._journal.save(self._done, self._totals, results, packs, last=last)
