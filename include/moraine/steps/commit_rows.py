"""The change set's rows as they go into the manifest: what was listed, completed by what the copy found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from moraine.engine.footers import Shape
from moraine.engine.rows import Cursor, key_at, match, sorted_rows
from moraine.errors import CommitRefused
from moraine.model import compute as pc
from moraine.model.entry import Kind, Op, display_path, join_path
from moraine.model.schemas import MANIFEST
from moraine.model.snapshot import Totals
from moraine.repository.manifest import DELTA
from moraine.steps.diff import Diffed
from moraine.steps.run import Run

_NAMED = 3  # broken files in the note of a snapshot


def final_rows(run: Run, diffed: Diffed, copied: dict[int, Any], tally: Tally) -> Iterator[pa.Table]:
    """The change set's rows as they go into the manifest (DELTA), in order."""
    part, results = -1, Cursor(())
    for piece in run.work.load_json(diffed.changes)["pieces"]:
        if piece["part"] != part:
            part = piece["part"]
            outcome = copied.get(part)
            results = Cursor(run.work.load_table(ref) for ref in (outcome["results"] if outcome else ()))
        table = _final(run.work.load_table(piece["ref"]), results, part, tally)
        if table.num_rows:
            yield table


def _through(results: Cursor, last: bytes) -> pa.Table:
    """The rows at hand up to a key: a shard leaves its rows in the order in which the change set has them."""
    tables = [MANIFEST.empty_table()]
    while (table := results.take_through(last)) is not None:
        tables.append(table)
    return pa.concat_tables(tables).unify_dictionaries()


def _final(changes: pa.Table, waiting: Cursor, part: int, tally: Tally) -> pa.Table:
    looked = changes["shard"].to_numpy() >= 0
    wanted, rest = pc.filter(changes, pc.from_numpy(looked)), pc.filter(changes, pc.from_numpy(~looked))
    results = _through(waiting, key_at(wanted, wanted.num_rows - 1)) if wanted.num_rows else MANIFEST.empty_table()
    at = match(wanted, results)
    if (at < 0).any():
        raise CommitRefused(
            f"copy shard {part} left {int((at < 0).sum()):,} entries out",
            hint=f"clear map index {part} of `copy`",
            shards=[part],
        )
    same = len(at) == results.num_rows and (at == np.arange(len(at))).all()
    found = (results if same else pc.take(results, pc.from_numpy(at))).append_column(DELTA.field("op"), wanted["op"])
    tally.correct(wanted, found)
    sample = wanted["op"].to_numpy() == Op.REHASH
    if sample.any():
        equal = pc.coalesce(pc.equal(found["digest"], wanted["digest"]), pa.scalar(False))
        found = pc.filter(found, pc.from_numpy(~(sample & np.asarray(equal))))
    if not rest.num_rows:
        return found.select(DELTA.names)
    return sorted_rows(pa.concat_tables([found.select(DELTA.names), rest.select(DELTA.names)]))


class Tally:
    """The snapshot's totals: what was listed, corrected by what the copy found."""

    def __init__(self, counts: dict[str, int], outcomes: list[Any]) -> None:
        self._counts = counts
        self._sums = {
            name: sum(doc["totals"].get(name, 0) for doc in outcomes)
            for name in ("added_bytes", "stored_bytes", "racy", "vanished", "denied")
        }
        self._more_bytes = 0
        self._broken: dict[str, str] = {}  # path → why, the first few
        self.broken = 0  # files of tables, read in this run, whose footer does not open

    def correct(self, listed: pa.Table, found: pa.Table) -> None:
        """Note that rows turned out as `found`."""
        self._more_bytes += _file_bytes(found) - _file_bytes(listed)
        mine = pc.filter(found, pc.and_(pc.is_valid(found["table_shape"]), pc.is_null(found["table_rows"])))
        for row in mine.select(["dir", "name", "table_shape"]).to_pylist():
            problem = Shape.of_text(row["table_shape"]).problem
            self.broken += problem is not None
            if problem and len(self._broken) < _NAMED:
                self._broken[display_path(join_path(row["dir"], row["name"]))] = problem

    def notes(self) -> tuple[str, ...]:
        """What people should know of the files that were read."""
        if not self.broken:
            return ()
        named = "; ".join(f"{path}: {problem}" for path, problem in self._broken.items())
        more = "; …" if self.broken > len(self._broken) else ""
        what = "1 table file was" if self.broken == 1 else f"{self.broken:,} table files were"
        return (f"{what} broken at the source already: {named}{more}",)

    def totals(self) -> Totals:
        """The totals, once all rows have gone by."""
        counts = self._counts
        return Totals(
            files=counts["files"],
            directories=counts["directories"],
            others=counts["entries"] - counts["files"] - counts["directories"],
            bytes=counts["bytes"] + self._more_bytes,
            changed=counts["changes"] - counts["deleted"] - counts["rehash"],
            removed=counts["deleted"],
            added_bytes=self._sums["added_bytes"],
            stored_bytes=self._sums["stored_bytes"],
            racy=self._sums["racy"],
            vanished=self._sums["vanished"],
            denied=self._sums["denied"] + counts["denied"],
        )


def _file_bytes(table: pa.Table) -> int:
    return int(table["size"].to_numpy()[table["kind"].to_numpy() == Kind.FILE].sum(dtype=np.int64))
