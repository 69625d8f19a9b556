"""Facts of a manifest: what an expectation suite cannot see in one column of one window.

For each row whether it comes after the row before it, whether its name is sound and whether its directory is a row;
for the whole what it adds up to. Columnar, one bounded window at a time, in manifest order. It judges nothing.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from moraine.engine.rows import row_keys
from moraine.model import compute as pc
from moraine.model.entry import Kind, State
from moraine.model.record import dataclass

COLUMNS = ("dir", "name", "kind", "size", "mode", "mtime_ns", "ctime_ns", "state", "target", "digest")
_JUDGED = ("kind", "size", "mode", "mtime_ns", "ctime_ns", "state", "target", "digest")

Mask = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Counts:
    """What the rows add up to."""

    files: int = 0
    directories: int = 0
    others: int = 0
    bytes: int = 0
    unreadable: int = 0

    @property
    def rows(self) -> int:
        """All of them."""
        return self.files + self.directories + self.others

    def add(self, table: pa.Table) -> None:
        """Count the rows of one more window."""
        kind, state = table["kind"].to_numpy(), table["state"].to_numpy()
        file = kind == Kind.FILE
        self.files += int(file.sum())
        self.directories += int((kind == Kind.DIRECTORY).sum())
        self.others += int((~file & (kind != Kind.DIRECTORY)).sum())
        self.bytes += int(table["size"].to_numpy()[file].sum(dtype=np.int64))
        self.unreadable += int(np.isin(state, (State.VANISHED, State.DENIED)).sum())

    def beside(self, recorded: Any, *, most_unreadable: int) -> pa.Table:
        """One row: each count, and beside it what `recorded` (an object with the same attributes) says."""
        names = [f.name for f in fields(self)]
        row = {name: getattr(self, name) for name in names}
        row |= {f"recorded_{name}": getattr(recorded, name) for name in names}
        row["most_unreadable"] = most_unreadable
        return pa.table({name: pa.array([value], pa.int64()) for name, value in row.items()})


class ManifestFacts:
    """Walks the windows of one manifest, in order."""

    def __init__(self) -> None:
        self.counts = Counts()
        self._last_key: bytes | None = None
        self._directories = _Directories()

    def window(self, table: pa.Table) -> pa.Table:
        """The window's judged columns with its facts beside them; `table` has COLUMNS and at least one row."""
        self.counts.add(table)
        directory, name = pc.plain(table["dir"]), table["name"].combine_chunks()
        keys = row_keys(table)
        facts = {
            "path": _paths(directory, name),
            "in_order": pa.array(self._in_order(keys)),
            "name_sound": pa.array(_sound(directory, name, table["kind"].to_numpy())),
            "parent_known": pa.array(self._directories.known(table, directory, name)),
        }
        self._last_key = keys[-1].as_py()
        return pa.table(facts | {column: table[column] for column in _JUDGED})

    def _in_order(self, keys: pa.Array) -> Mask:
        ascending = np.ones(len(keys), dtype=bool)
        ascending[1:] = pc.greater(keys[1:], keys[:-1]).to_numpy(zero_copy_only=False)
        ascending[0] = self._last_key is None or keys[0].as_py() > self._last_key
        return ascending


class _Directories:
    """Directory rows seen whose content may still come.

    Order makes this small: the content of a directory comes as one block, blocks come in the order of their paths,
    and the row of a directory comes before its block. So a row can be dropped as soon as a later block has begun.
    """

    def __init__(self) -> None:
        self._runs: list[pa.Array] = []  # each sorted; paths with '/' mapped to NUL, so that bytes sort in block order

    def known(self, table: pa.Table, directory: pa.Array, name: pa.Array) -> Mask:
        """For each row whether the directory it stands in has been a directory row."""
        blocks = pc.unique(directory)
        entered = _ordered(blocks)
        rows = pa.array(table["kind"].to_numpy() == Kind.DIRECTORY)
        here = _ordered(_paths(directory.filter(rows), name.filter(rows)))
        last = pc.max(entered).as_py()
        candidates = pa.concat_arrays([here, *self._take(last)])
        found = pc.is_in(entered, value_set=candidates)
        self._add(here, last)
        at = pc.index_in(directory, value_set=blocks)
        return np.asarray(found.take(at).to_numpy(zero_copy_only=False))

    def _take(self, last: bytes) -> list[pa.Array]:
        """What is known up to `last`; all before it is forgotten."""
        taken = [run.slice(0, _bisect(run, last, after=True)) for run in self._runs]
        left = [run.slice(_bisect(run, last, after=False)) for run in self._runs]
        self._runs = [run for run in left if len(run)]
        return taken

    def _add(self, here: pa.Array, last: bytes) -> None:
        later = here.filter(pc.greater_equal(here, last))
        if len(later):
            self._runs.append(later.take(pc.sort_indices(later)))


def _bisect(run: pa.Array, key: bytes, *, after: bool) -> int:
    low, high = 0, len(run)
    while low < high:
        middle = (low + high) // 2
        found = run[middle].as_py()
        if found < key or (after and found == key):
            low = middle + 1
        else:
            high = middle
    return low


def _ordered(paths: pa.Array) -> pa.Array:
    return pc.replace_substring(paths, b"/", b"\0")


def _paths(directory: pa.Array, name: pa.Array) -> pa.Array:
    joined = pc.binary_join_element_wise(directory, name, pa.scalar(b"/", pa.binary()))
    return pc.if_else(pc.equal(directory, b""), name, joined)


def _sound(directory: pa.Array, name: pa.Array, kind: npt.NDArray[Any]) -> Mask:
    odd = pc.is_in(name, value_set=pa.array([b"", b".", b".."], pa.binary()))
    for part in (b"/", b"\0"):
        odd = pc.or_(odd, pc.match_substring(name, part))
    root = pc.and_(pc.and_(pc.equal(directory, b""), pc.equal(name, b"")), pa.array(kind == Kind.DIRECTORY))
    return np.asarray(pc.or_(pc.invert(odd), root).to_numpy(zero_copy_only=False))
