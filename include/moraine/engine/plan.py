"""Cuts a change set into copy shards: contiguous in path order, balanced by bytes and by count."""

from __future__ import annotations

import posixpath

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from moraine.model import compute as pc
from moraine.model.entry import display_path
from moraine.model.record import dataclass
from moraine.model.schemas import CHANGES
from moraine.model.units import format_size

_WORTH = 32 << 20  # cost of a shard that is only made to share the work
_LONGEST = 40  # letters of a directory in a label
FILE_COST = 32 << 10  # bytes that one more file costs in time: open, stat, hash set-up (measured about 15 µs)


@dataclass(frozen=True, slots=True)
class PlanShard:
    """One copy task's share; `label` names it in the UI."""

    number: int
    label: str
    files: int
    bytes: int


class Planner:
    """Numbers the rows of a change set that a copy step has to look at, in one pass."""

    def __init__(
        self, *, shard_bytes: int, shard_files: int, most: int, total_bytes: int, total_files: int, least: int = 1
    ) -> None:
        """Args: with `least` there are so many shards as soon as that is worth it, however small they are."""
        total = total_bytes + total_files * FILE_COST
        wanted = max(-(-total_bytes // shard_bytes), -(-total_files // shard_files), min(least, total // _WORTH), 1)
        shards = min(most, wanted)
        self._capacity = -(-total // shards) + FILE_COST
        self._most = most
        self._spent = 0
        self._files = [0]
        self._bytes = [0]
        self._reach: dict[int, tuple[bytes, bytes]] = {}  # a shard's first and last directory

    def assign(self, changes: pa.Table) -> list[tuple[int, pa.Table]]:
        """`changes` cut into (shard, rows); rows nobody has to look at stay with their neighbours as -1."""
        look = changes["shard"].to_numpy() >= 0
        size = np.where(changes["read"].to_numpy(), changes["size"].to_numpy(), 0)
        cost = np.where(look, size + FILE_COST, 0).cumsum() + self._spent
        number = np.minimum((cost - 1).clip(0) // self._capacity, self._most - 1)
        number = np.maximum.accumulate(number)
        self._spent = int(cost[-1]) if len(cost) else self._spent
        parts: list[tuple[int, pa.Table]] = []
        for shard in number[np.diff(number, prepend=-1) > 0].tolist():
            rows = number == shard
            self._count(shard, int((look & rows).sum()), int(size[rows].sum()))
            self._stretch(shard, changes, np.flatnonzero(look & rows))
            start, count = int(np.argmax(rows)), int(rows.sum())
            numbers = pc.from_numpy(np.where(look[rows], shard, -1).astype(np.int32))
            piece = changes.slice(start, count)
            parts.append((shard, piece.set_column(CHANGES.get_field_index("shard"), CHANGES.field("shard"), numbers)))
        return parts

    def shards(self) -> list[PlanShard]:
        """The shards that got work."""
        return [
            PlanShard(number, f"{number}: {self._where(number)}, {_entries(files)}, {format_size(size)}", files, size)
            for number, (files, size) in enumerate(zip(self._files, self._bytes, strict=True))
            if files
        ]

    def _where(self, shard: int) -> str:
        first, last = self._reach[shard]
        if first == last:
            return _short(first)
        shared = posixpath.commonpath([first, last])
        return f"{_short(first)} to {_short(last[len(shared) + 1 :] if shared not in (b'', first) else last)}"

    def _stretch(self, shard: int, changes: pa.Table, rows: npt.NDArray[np.int64]) -> None:
        if len(rows):
            first, last = (changes["dir"][int(row)].as_py() for row in (rows[0], rows[-1]))
            self._reach[shard] = (self._reach.get(shard, (first, last))[0], last)

    def _count(self, shard: int, files: int, size: int) -> None:
        while len(self._files) <= shard:
            self._files.append(0)
            self._bytes.append(0)
        self._files[shard] += files
        self._bytes[shard] += size


def _entries(count: int) -> str:
    return f"{count:,} " + ("entry" if count == 1 else "entries")


def _short(directory: bytes) -> str:
    """A directory as a person tells it from its neighbours: the beginning and the end."""
    text = display_path(directory) or "top"
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]}…{text[-half:]}"
