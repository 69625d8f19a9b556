"""Which data sets a snapshot has, and what was recorded of each: one pass over its manifest, window by window.

A policy's `checks` come first; what they leave is grouped by kind, told by the files' endings. Of files of tables the
night has recorded rows and columns; here they are added up per table. A table is the directory of its files, without
the directories that are partitions (`day=2026-11-21`); what a check of the policy names is one table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import Any

import numpy as np
import pyarrow as pa

from moraine.engine.footers import Shape
from moraine.engine.rows import rechunk
from moraine.model import compute as pc
from moraine.model.entry import Kind, State, display_path
from moraine.model.policy import Check, Policy
from moraine.model.policy_checks import SUFFIXES
from moraine.model.policy_types import plain
from moraine.model.record import dataclass
from moraine.model.snapshot import Snapshot
from moraine.proof.data_set import FILES, DataSet
from moraine.repository.repository import Repository

MOST_TABLES = 200  # whose rows and columns travel with a data set
MOST_BROKEN = 100  # files known to be broken that do
MOST_SHAPES = 20  # of one table
_WINDOW = 1 << 16
_READ = ("dir", "name", "kind", "size", "state", "table_rows", "table_shape")
_TABLES = ("parquet", "orc")


def plan_data_sets(repository: Repository, snapshot: Snapshot, policy: Policy) -> list[DataSet]:
    """The data sets of a snapshot, without those that have no file; the one of all files comes first.

    Raises:
        MissingObject, DamagedObject: the manifest is not whole.
    """
    wanted = list(_wanted(snapshot, policy))
    found = _add_up(repository, snapshot, wanted)
    before = _before(repository, snapshot)
    earlier = _add_up(repository, before, wanted) if before else [_Recorded() for _ in wanted]
    return [
        DataSet(**{**_parts(data_set), "recorded": now.to_dict(then, before)})
        for data_set, now, then in zip(wanted, found, earlier, strict=True)
        if now.files or data_set.kind == FILES or (data_set.rules and not data_set.endings)
    ]


def table_of(path: bytes) -> bytes:
    """The table that a file belongs to: its directory, up to the first that is a partition."""
    kept: list[bytes] = []
    for name in path.split(b"/")[:-1]:
        if b"=" in name:
            break
        kept.append(name)
    return b"/".join(kept)


def _parts(data_set: DataSet) -> dict[str, Any]:
    return {name: getattr(data_set, name) for name in DataSet.__slots__}


def _wanted(snapshot: Snapshot, policy: Policy) -> Iterator[DataSet]:
    yield DataSet("all files", FILES, snapshot.id)
    claimed: tuple[str, ...] = ()
    for check in policy.checks:
        for kind in SUFFIXES if check.kind == "auto" else [check.kind]:
            name = check.name or check.paths[0]
            auto = check.kind == "auto"
            yield DataSet(
                f"{name} ({kind})" if auto else name,
                kind,
                snapshot.id,
                check.paths,
                SUFFIXES[kind] if auto else (),
                claimed,
                rules=_rules(check),
            )
        claimed += check.paths
    for kind, endings in SUFFIXES.items():
        yield DataSet(kind, kind, snapshot.id, (), endings, claimed)


def _rules(check: Check) -> dict[str, Any]:
    return {name: rule for name, rule in plain(check).items() if name not in ("paths", "name", "kind")}


@dataclass(slots=True)
class _Table:
    files: int = 0
    rows: int = 0
    unrecorded: int = 0
    shapes: dict[str, None] = field(default_factory=dict)


@dataclass(slots=True)
class _Recorded:
    """What adds up to `DataSet.recorded`."""

    files: int = 0
    size: int = 0  # bytes
    tables: dict[str, _Table] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)

    def add(self, data_set: DataSet, paths: pa.Array, rows: pa.Table) -> None:
        self.files += rows.num_rows
        self.size += int(rows["size"].to_numpy().sum(dtype=np.int64))
        if data_set.kind not in _TABLES:
            return
        shapes = rows["table_shape"].cast(pa.string()).to_pylist()
        for path, count, shape in zip(paths.to_pylist(), rows["table_rows"].to_pylist(), shapes, strict=True):
            self._file(path, count, shape, one=bool(data_set.rules))

    def _file(self, path: bytes, rows: int | None, shape: str | None, *, one: bool) -> None:
        name = "" if one else display_path(table_of(path))
        if name not in self.tables and len(self.tables) >= MOST_TABLES:
            self.left_out.add(name)
            return
        table = self.tables.setdefault(name, _Table())
        table.files += 1
        table.rows += rows or 0
        problem = Shape.of_text(shape).problem if shape and rows is None else None
        table.unrecorded += rows is None and problem is None
        if problem and len(self.broken) < MOST_BROKEN:
            self.broken[display_path(path)] = problem
        if rows is not None and shape and len(table.shapes) < MOST_SHAPES:
            table.shapes[shape] = None

    def to_dict(self, then: _Recorded, before: Snapshot | None) -> dict[str, Any]:
        found: dict[str, Any] = {"files": self.files, "bytes": self.size}
        if not self.tables:
            return found
        found["before"] = before.id if before else None
        found["tables"] = {name: _table(table, then.tables.get(name)) for name, table in self.tables.items()}
        return found | {"broken": self.broken, "tables_left_out": len(self.left_out)}


def _table(now: _Table, then: _Table | None) -> dict[str, Any]:
    known = then is not None and not then.unrecorded
    return {
        "files": now.files,
        "rows": now.rows,
        "unrecorded": now.unrecorded,
        "shapes": list(now.shapes),
        "before": {"rows": then.rows, "shapes": list(then.shapes)} if then and known else None,
    }


def _add_up(repository: Repository, snapshot: Snapshot, wanted: list[DataSet]) -> list[_Recorded]:
    totals = [_Recorded() for _ in wanted]
    for table in rechunk(repository.manifest(snapshot).tables(_READ), _WINDOW):
        there = pc.is_in(table["state"], value_set=pa.array([State.OK, State.RACY], pa.uint8()))
        rows = table.filter(pc.and_(pc.equal(table["kind"], int(Kind.FILE)), there))
        paths = row_paths(rows)
        for data_set, total in zip(wanted, totals, strict=True):
            mask = pa.array(data_set.mask(paths))
            total.add(data_set, paths.filter(mask), rows.filter(mask))
    return totals


def row_paths(rows: pa.Table) -> pa.Array:
    """The paths of rows, as bytes."""
    directory, name = rows["dir"].cast(pa.binary()).combine_chunks(), rows["name"].combine_chunks()
    joined = pc.binary_join_element_wise(directory, name, pa.scalar(b"/", pa.binary()))
    return pc.if_else(pc.equal(directory, b""), name, joined)


def _before(repository: Repository, snapshot: Snapshot) -> Snapshot | None:
    """The newest live snapshot of the same policy that is older."""
    live = repository.state.live(snapshot.policy)
    older = [record for record in live if record.captured_at < snapshot.captured_at]
    newest = max(older, key=lambda record: record.captured_at, default=None)
    return repository.snapshot(newest.id) if newest else None
