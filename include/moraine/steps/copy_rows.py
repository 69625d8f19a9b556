"""The rows a copy shard leaves: a piece of the change set with what was found put in, column by column."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from moraine.model import compute as pc
from moraine.model.entry import Kind, Op, State
from moraine.model.schemas import CONTENT, INVENTORY, RESULTS
from moraine.sources.base import Attributes, Stamp, Wanted
from moraine.steps.copy_files import Content

SLICE_ROWS = 4096

_FILE_CONTENT = ("extents", "digest", "chunks", "table_rows", "table_shape")


class Rows:
    """One slice of a change set, being worked on. Columns become Python lists here and nowhere else."""

    def __init__(self, changes: pa.Table, session: str) -> None:
        self._changes = changes
        self._session = session
        self.count = changes.num_rows
        self.directory: list[bytes] = pc.plain(changes["dir"]).to_pylist()
        self.name: list[bytes] = changes["name"].to_pylist()
        self.kind = self._numbers("kind")
        self.uid = self._numbers("uid")
        self.gid = self._numbers("gid")
        self.size = self._numbers("size")
        self.inode = self._numbers("inode")
        self.device = self._numbers("device")
        self.nlink = self._numbers("nlink")
        self.state = self._numbers("state")
        self.op = self._numbers("op")
        self.read: list[bool] = changes["read"].to_numpy().tolist()
        times = self._nanoseconds("mtime"), self._nanoseconds("ctime")
        self.listed = list(map(Stamp._make, zip(self.size, *times, self.inode, strict=True)))
        self._stamps: dict[int, Stamp] = {}
        self._content = self._carried()

    def wanted(self) -> list[Wanted]:
        """The files whose content has to be read, in order."""
        # A change set of an earlier version of this package has no such column.
        found = self._changes["version"] if "version" in self._changes.column_names else None
        versions: list[bytes | None] = found.to_pylist() if found else [None] * self.count
        return [
            Wanted(self.directory[row], self.name[row], self.size[row], versions[row])
            for row in range(self.count)
            if self.read[row] and self.kind[row] == Kind.FILE
        ]

    def old_content(self, row: int) -> tuple[bytes | None, list[bytes] | None]:
        """Digest and chunks that the row came with."""
        return self._content["digest"][row], self._content["chunks"][row]

    def set_attributes(self, row: int, found: Attributes) -> None:
        """Take what the source said besides the listing."""
        content = self._content
        content["target"][row] = found.target
        content["xattrs"][row] = found.xattrs
        content["owner"][row] = found.owner
        content["group"][row] = found.group
        content["session"][row] = self._session

    def set_content(self, row: int, found: Content) -> None:
        """Take what was read."""
        content = self._content
        content["digest"][row] = found.digest
        content["chunks"][row] = found.chunks
        content["extents"][row] = found.extents
        content["table_rows"][row] = found.facts.rows if found.facts else None
        content["table_shape"][row] = found.facts.shape if found.facts else None
        self.set_attributes(row, found.attributes)
        self.state[row] = found.state
        if found.state == State.RACY and (found.stamp != self.listed[row] or found.size != self.size[row]):
            self._stamps[row] = found.stamp._replace(size=found.size)

    def set_unread(self, row: int, state: State) -> None:
        """The entry is gone, or may not be read: what this row came with stays if it still holds."""
        self.state[row] = state
        self._content["session"][row] = self._session
        if state == State.VANISHED:
            for name in _FILE_CONTENT:
                self._content[name][row] = None

    def table(self) -> pa.Table:
        """The finished RESULTS rows."""
        columns: dict[str, Any] = {name: self._changes[name] for name in INVENTORY.names}
        columns["state"] = pc.from_numpy(np.array(self.state, dtype=np.uint8))
        if self._stamps:
            columns |= self._corrected()
        for field in CONTENT:
            columns[field.name] = pa.array(self._content[field.name], type=field.type)
        return pa.table(columns, schema=RESULTS)

    def _numbers(self, name: str) -> list[int]:
        numbers: list[int] = self._changes[name].to_numpy().tolist()
        return numbers

    def _nanoseconds(self, name: str) -> list[int]:
        seconds = self._changes[name].to_numpy()
        total: list[int] = (seconds * 1_000_000_000 + self._changes[name + "_ns"].to_numpy()).tolist()
        return total

    def _carried(self) -> dict[str, list[Any]]:
        """Content columns: kept for rows whose content holds still, and empty for all others."""
        op = np.array(self.op)
        keep = (op == Op.METADATA) | (op == Op.REHASH)
        if not keep.any():
            return {field.name: [None] * self.count for field in CONTENT}
        columns = {field.name: pc.plain(self._changes[field.name]).to_pylist() for field in CONTENT}
        for row in np.flatnonzero(~keep).tolist():
            for values in columns.values():
                values[row] = None
        for row in np.flatnonzero(keep & (np.array(self.kind) != Kind.FILE)).tolist():
            for name in _FILE_CONTENT:
                columns[name][row] = None
        return columns

    def _corrected(self) -> dict[str, pa.Array]:
        rows = list(self._stamps)
        stamps = self._stamps.values()
        values = {
            "size": [stamp.size for stamp in stamps],
            "mtime": [stamp.mtime_ns // 1_000_000_000 for stamp in stamps],
            "mtime_ns": [stamp.mtime_ns % 1_000_000_000 for stamp in stamps],
            "ctime": [stamp.ctime_ns // 1_000_000_000 for stamp in stamps],
            "ctime_ns": [stamp.ctime_ns % 1_000_000_000 for stamp in stamps],
            "inode": [stamp.inode for stamp in stamps],
        }
        columns = {}
        for name, new in values.items():
            column = self._changes[name].to_numpy().copy()
            column[rows] = new
            columns[name] = pc.from_numpy(column)
        return columns


def slices(tables: Iterator[pa.Table], shard: int, skip: int) -> Iterator[pa.Table]:
    """The rows of a shard in pieces of `SLICE_ROWS`, without the first `skip`."""
    for table in tables:
        numbers = table["shard"].to_numpy()
        mine = table if (numbers == shard).all() else pc.filter(table, pc.from_numpy(numbers == shard))
        passed = min(skip, mine.num_rows)
        skip -= passed
        for start in range(passed, mine.num_rows, SLICE_ROWS):
            yield mine.slice(start, SLICE_ROWS)
