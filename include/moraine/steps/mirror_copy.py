"""copy of a mirror: read what has changed, once, and put it into the tree, where it appears complete.

Nothing is deleted here, and directories get their attributes later: that is `mirror_settle`. What a shard has done is
journalled; what it had written after the last entry is found in its place by the next attempt, and not written again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, field
from functools import partial

import numpy as np
import pyarrow as pa

from moraine.engine.plan import PlanShard
from moraine.errors import SourceError, SourceMissing, SourceUnmounted, SourceVanished
from moraine.model.entry import Kind, Op, State, join_path
from moraine.model.record import dataclass
from moraine.repository.work import Ref
from moraine.sources.base import Reader
from moraine.sources.mirror import MirrorWriter, trash_name
from moraine.sources.posix_target_placing import refuse
from moraine.sources.target import Rows as TargetRows
from moraine.steps.copy import JOURNAL_ROWS, JOURNAL_SECONDS, TOTALS, Copied
from moraine.steps.copy_files import Content
from moraine.steps.copy_rows import Rows, slices
from moraine.steps.mirror_files import FileCopier
from moraine.steps.restore_rows import Window
from moraine.steps.run import Run

_FLUSH_BYTES = 256 << 20  # staged; then it is made visible
_ENTRY, _OUTCOME = "-entry", "-outcome"


@dataclass(slots=True)
class _Done:
    """The content of a journal entry, and of the outcome, which `commit` reads."""

    shard: int
    changes: Ref
    rows: int = 0
    results: list[Ref] = field(default_factory=list)
    totals: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOTALS, 0))
    notes: dict[str, int] = field(default_factory=dict)  # what the mirror could not take as it is, by code
    named: list[dict[str, str]] = field(default_factory=list)
    locations: list[Ref] = field(default_factory=list)  # a mirror has no packs
    packs: list[dict[str, str]] = field(default_factory=list)


def copy_mirror(run: Run, changes: Ref, shard: int, *, planned: PlanShard | None = None) -> Copied:
    """Bring the entries of one shard of the change set to the mirror.

    Raises:
        TargetFull, RestoreError: the mirror; what is there is used by the next attempt.
        SourceMissing, SourceUnmounted: the source as a whole is gone. Single entries become rows with a state.
        SessionGone: the change set has been swept.
    """
    assert run.mirror
    run.progress.start("copy", planned.files if planned else None, planned.bytes if planned else None)
    done = _resumed(run, changes, shard)
    trash = trash_name(run.session.opened_at, run.session.id, run.session.attempt)
    with run.mirror.writer(trash, run.unique(f"{run.session.id}-{shard}")) as writer, run.source.reader() as reader:
        work = _Shard(run, done, writer, reader)
        for piece in slices(run.work.load_pieces(changes, part=shard), shard, done.rows):
            work.copy(piece)
        writer.settle()
        outcome = work.save(last=True)
    run.progress.finish("copy")
    return Copied(shard, outcome, **done.totals)


def _resumed(run: Run, changes: Ref, shard: int) -> _Done:
    """What an earlier attempt has noted; nothing once one has finished: then a new one was asked for on purpose."""
    best = _Done(shard, changes)
    noted = [name for name in run.work.list(_folder(shard)) if name.endswith((_ENTRY, _OUTCOME))]
    for name in noted:
        found = _Done(**run.work.read_json(name))
        if found.changes != changes:
            continue
        if name.endswith(_OUTCOME):
            return _Done(shard, changes)
        best = max(best, found, key=lambda entry: entry.rows)
    return best


def _folder(shard: int) -> str:
    return f"copy/{shard:05d}/"


class _Shard:
    """One attempt at a shard."""

    def __init__(self, run: Run, done: _Done, writer: MirrorWriter, reader: Reader) -> None:
        assert run.mirror
        self._run = run
        self._done = done
        self._writer = writer
        self._reader = reader
        self._kinds = run.mirror.kinds
        self._links = run.mirror.links
        self._leaders: dict[tuple[int, int], tuple[Content, tuple[bytes, bytes]]] = {}  # and where it is
        self._further: list[tuple[int, tuple[bytes, bytes]]] = []  # rows of this piece that are one more name
        self._told = 0
        self._copier = FileCopier(
            reader,
            writer,
            id_key=run.repository.keyring.id_key,
            racy_from=self._racy_from,
            advance=self._advance,
            alone=run.processes == 1,
        )
        self._name = run.unique(f"{_folder(done.shard)}copy")
        self._saved = 0
        self._saved_at = run.clock()
        self._racy = 0
        self._results: list[pa.Table] = []
        self._waiting = 0

    def copy(self, piece: pa.Table) -> None:
        """Do one piece of the change set."""
        rows = Rows(piece, self._run.session.id)
        window = Window(piece)
        there = window.rows(np.arange(len(window)), np.zeros(len(window), np.uint8))
        self._racy = int((self._run.clock().timestamp() - self._run.policy.racy_window) * 1e9)
        totals = self._done.totals
        before, self._told, staged = totals["bytes"], 0, self._copier.written
        self._writer.expect(_firsts(rows))
        for row in range(rows.count):
            self._entry(rows, there, row)
            if self._copier.written - staged >= _FLUSH_BYTES:
                self._flush(rows)
                staged = self._copier.written
        self._flush(rows)
        self._link(rows, there)
        for name, state in (("racy", State.RACY), ("vanished", State.VANISHED), ("denied", State.DENIED)):
            totals[name] += rows.state.count(state)
        self._results.append(rows.table())
        self._waiting += rows.count
        self._run.progress.advance(files=rows.count, bytes=max(totals["bytes"] - before - self._told, 0))
        if self._waiting >= JOURNAL_ROWS or (self._run.clock() - self._saved_at).total_seconds() >= JOURNAL_SECONDS:
            self.save()

    def save(self, *, last: bool = False) -> Ref:
        """Note what is done; all of it is visible in the mirror."""
        done, name = self._done, f"{self._name}-{self._saved:04d}"
        self._saved += 1
        if self._results:
            table = pa.concat_tables(self._results).unify_dictionaries()
            done.results.append(self._run.work.save_table(f"{name}-results", table))
        done.rows += self._waiting
        done.totals["added_bytes"] = done.totals["stored_bytes"] = done.totals["added_bytes"] + self._copier.written
        self._copier.written = 0
        notes = self._writer.notes
        done.notes = notes.counts
        done.named = notes.to_list()[:1000]
        self._results, self._waiting, self._saved_at = [], 0, self._run.clock()
        return self._run.work.save_json(name + (_OUTCOME if last else _ENTRY), asdict(done))

    def _entry(self, rows: Rows, there: TargetRows, row: int) -> None:
        do = self._file if rows.kind[row] == Kind.FILE and rows.read[row] else self._other
        self._guarded(rows, row, partial(do, rows, there, row))

    def _guarded(self, rows: Rows, row: int, do: Callable[[], None]) -> None:
        """Do something about one entry; what fails is said in its row."""
        try:
            do()
        except (SourceMissing, SourceUnmounted):
            raise
        except SourceVanished:
            rows.set_unread(row, State.VANISHED)
        except SourceError:
            rows.set_unread(row, State.DENIED)
        except OSError as error:
            refuse(self._writer.notes, error, join_path(rows.directory[row], rows.name[row]))
            _refused(rows, row)

    def _file(self, rows: Rows, there: TargetRows, row: int) -> None:
        link = (rows.device[row], rows.inode[row]) if self._links and rows.nlink[row] > 1 else None
        if link in self._leaders:
            content, leader = self._leaders[link]
            rows.set_content(row, content)
            self._further.append((row, leader))
            return
        listed = rows.listed[row]
        if rows.op[row] == Op.REHASH:
            found = self._copier.digest(there, row, listed)
            self._count(found)
            if found.digest == rows.old_content(row)[0]:
                return
            self._done.totals["silent"] += found.state == State.OK
        content = self._copier.copy(there, row, listed)
        self._count(content)
        rows.set_content(row, content)
        if link:
            self._leaders[link] = content, (rows.directory[row], rows.name[row])

    def _link(self, rows: Rows, there: TargetRows) -> None:
        """Further names of files that stand by now; a file of its own where the mirror has no such names."""
        further, self._further = self._further, []
        for row, leader in further:
            if not self._writer.link(there, row, leader):
                self._guarded(rows, row, partial(self._alone, rows, there, row))
        self._flush(rows)

    def _alone(self, rows: Rows, there: TargetRows, row: int) -> None:
        content = self._copier.copy(there, row, rows.listed[row])
        self._count(content)
        rows.set_content(row, content)

    def _other(self, rows: Rows, there: TargetRows, row: int) -> None:
        """What has no content to be read: its attributes, and the entry itself where it is no file."""
        kind = rows.kind[row]
        found = self._reader.attributes(rows.directory[row], rows.name[row], kind, rows.uid[row], rows.gid[row])
        rows.set_attributes(row, found)
        if kind not in self._kinds:
            return
        for column, value in (("target", found.target), ("xattrs", found.xattrs)):
            getattr(there, column)[row] = value
        if kind == Kind.DIRECTORY:
            self._writer.directory(there, row)
        elif kind == Kind.FILE:
            self._writer.refresh(there, row)
        else:
            self._writer.node(there, row, row)

    def _flush(self, rows: Rows) -> None:
        for row in self._writer.flush():
            _refused(rows, row)

    def _count(self, content: Content) -> None:
        self._done.totals["files"] += 1
        self._done.totals["bytes"] += content.size

    def _advance(self, count: int) -> None:
        self._told += count
        self._run.progress.advance(bytes=count)

    def _racy_from(self) -> int:
        return self._racy


def _firsts(rows: Rows) -> Iterator[tuple[bytes, bytes]]:
    """Of each directory the first file that has to be read."""
    last: bytes | None = None
    for row in range(rows.count):
        if rows.kind[row] == Kind.FILE and rows.read[row] and rows.directory[row] != last:
            last = rows.directory[row]
            yield last, rows.name[row]


def _refused(rows: Rows, row: int) -> None:
    """The mirror does not have the entry: no content, and it is tried again next time."""
    rows.set_unread(row, State.VANISHED)
    rows.state[row] = State.DENIED


def results_of(run: Run, outcomes: list[dict[str, object]]) -> Iterator[pa.Table]:
    """The rows that shards have left."""
    for outcome in outcomes:
        refs = outcome["results"]
        assert isinstance(refs, list)
        for ref in refs:
            yield run.work.load_table(ref)
