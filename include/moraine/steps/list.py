"""list: walk one part of the source and keep what was seen as an inventory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from moraine.engine.rows import key_at, out_of_order, rechunk
from moraine.errors import SourceError
from moraine.model.entry import Kind, State, display_path, join_path
from moraine.model.record import dataclass
from moraine.model.window import format_time
from moraine.repository.work import Ref
from moraine.sources.base import ListShard
from moraine.steps.run import Run

PIECE_ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class Listed:
    """One part of the source, listed."""

    inventory: Ref
    entries: int
    files: int
    directories: int
    bytes: int
    denied: int
    remarks: tuple[str, ...] = ()
    linked: int = 0  # files that have more than one name


class _Counts:
    def __init__(self) -> None:
        self.entries = self.files = self.directories = self.bytes = self.denied = self.linked = 0

    def add(self, table: pa.Table) -> None:
        kind = table["kind"].to_numpy()
        files = kind == Kind.FILE
        self.entries += table.num_rows
        self.files += int(np.count_nonzero(files))
        self.directories += int(np.count_nonzero(kind == Kind.DIRECTORY))
        self.bytes += int(table["size"].to_numpy()[files].sum())
        self.linked += int(np.count_nonzero(files & (table["nlink"].to_numpy() > 1)))
        self.denied += int(np.count_nonzero(table["state"].to_numpy() == State.DENIED))


def list_entries(run: Run, shard: ListShard) -> Listed:
    """List one part of the source into an inventory.

    Raises:
        SourceMissing, SourceDenied: the part's root cannot be read.
        SourceError: the window's end lies further back than the source's history by now; or rows came out of order.
    """
    _require_told(run)
    run.progress.start("list")
    counts = _Counts()
    pieces = ((0, table) for table in rechunk(_counted(run, shard, counts), PIECE_ROWS))
    inventory = run.work.save_pieces(run.unique(f"inventory/{shard.name}"), pieces)
    run.progress.finish("list")
    return Listed(
        inventory,
        counts.entries,
        counts.files,
        counts.directories,
        counts.bytes,
        counts.denied,
        run.source.remarks(),
        counts.linked,
    )


def _require_told(run: Run) -> None:
    """A task that was cleared days later may come too late for what was sure when the run opened."""
    if not run.policy.source.history:
        return
    history, end = run.source.probe().history, run.session.window.end
    if history is not None and run.clock() - end >= history:
        raise SourceError(
            f"the bucket's lifecycle removes versions {history.days} days after they are replaced: as of "
            f"{format_time(end)} it can no longer be read",
            hint="clear `open` too: the run then captures the present, as a late one",
        )


def _counted(run: Run, shard: ListShard, counts: _Counts) -> Iterator[pa.Table]:
    for table in _ordered(_tables(run.source.list(shard))):
        counts.add(table)
        run.progress.advance(files=table.num_rows)
        yield table


def _ordered(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The tables, if they are in manifest order: rows that are not would look like deletions and additions."""
    last = b""
    for table in tables:
        if not table.num_rows:
            continue
        row = 0 if last and key_at(table, 0) <= last else out_of_order(table)
        if row is not None:
            directory, name = table["dir"][row].as_py(), table["name"][row].as_py()
            raise SourceError(
                f"{display_path(join_path(directory, name))} was listed out of order",
                hint="this is a bug in the source's listing; nothing was committed",
            )
        last = key_at(table, table.num_rows - 1)
        yield table


def _tables(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    for batch in batches:
        yield pa.Table.from_batches([batch])
