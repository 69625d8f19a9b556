"""A tree of any number of files that is nowhere: as a source that lists it, and as a target that holds it.

Everything follows from the number of a file, so that two listings agree and no file is kept. Ten thousand files make a
project of a hundred directories; a night changes `changed` files, spread evenly over the tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from moraine.model.entry import Kind
from moraine.model.schemas import INVENTORY
from moraine.sources.base import Attributes, ListShard, SourceFacts, Stamp, Wanted
from moraine.sources.target import FOUND, Asked, Beside, Extra, Notes, Rows, TargetFacts

FOLDERS = 100  # of a project
FILES = 100  # of a folder
PROJECT = FOLDERS * FILES
EPOCH = 1_700_000_000
YEAR = 365 * 86400


class MadeSource:
    """Lists `files` files; those that `changed` names are of a later night."""

    kind = "made"

    def __init__(self, files: int, changed: int = 0) -> None:
        self._files = files
        self._step = files // changed if changed else 0
        self._changed = changed

    def probe(self) -> SourceFacts:
        """It is always there."""
        return SourceFacts("made", 1)

    def as_of(self, at: datetime) -> MadeSource:
        """It has no history."""
        return self

    def shards(self, want: int) -> list[ListShard]:
        """One listing."""
        return [ListShard("all")]

    def list(self, shard: ListShard) -> Iterator[pa.RecordBatch]:
        """A batch for each project, in manifest order."""
        projects = -(-self._files // PROJECT)
        yield _directories(b"", b"", [b"", *(_project(number) for number in range(projects))])
        for number in range(projects):
            yield self._batch(number, min(PROJECT, self._files - number * PROJECT))

    @contextmanager
    def reader(self) -> Iterator[MadeReader]:
        """A reader of what was changed."""
        yield MadeReader()

    def remarks(self) -> tuple[str, ...]:
        """Nothing to say."""
        return ()

    def _batch(self, project: int, count: int) -> pa.RecordBatch:
        name, folders = _project(project), -(-count // FILES)
        numbers = np.arange(count) + project * PROJECT
        columns = stat_columns(numbers)
        if self._step:
            late = (numbers % self._step == 0) & (numbers // self._step < self._changed)
            columns["mtime"] = columns["mtime"] + late * YEAR
        paths = pa.array([name + b"/" + _folder(number) for number in range(folders)], pa.binary())
        columns["dir"] = pa.DictionaryArray.from_arrays(pa.array((np.arange(count) // FILES).astype(np.int32)), paths)
        columns["name"] = pa.array([_name(number) for number in numbers.tolist()], pa.binary())
        files = pa.table(columns, schema=INVENTORY)
        above = pa.table(_directories(name, name, [_folder(number) for number in range(folders)]))
        return pa.concat_tables([above, files]).unify_dictionaries().combine_chunks().to_batches()[0]


class MadeReader:
    """Hands out as many bytes as the listing says, of a content of their own for each file."""

    def expect(self, wanted: list[Wanted]) -> None:
        """Nothing to fetch."""

    def open(self, directory: bytes, name: bytes, listed: Stamp | None = None) -> MadeFile:
        """A file that was changed."""
        return MadeFile(int(name[5:13]))

    def attributes(self, directory: bytes, name: bytes, kind: int, uid: int, gid: int) -> Attributes:
        """Plain ones."""
        return Attributes(owner="loader", group="data")


class MadeFile:
    """One file being read."""

    def __init__(self, number: int) -> None:
        columns = {name: int(column[0]) for name, column in stat_columns(np.array([number])).items()}
        ctime = columns["ctime"] * 10**9 + columns["ctime_ns"]
        mtime = (columns["mtime"] + YEAR) * 10**9 + columns["mtime_ns"]
        self.stamp = Stamp(columns["size"], mtime, ctime, columns["inode"])
        self.attributes = Attributes(owner="loader", group="data")
        self._data = memoryview(np.random.default_rng(number).bytes(columns["size"]))

    def extents(self) -> None:
        """No holes."""

    def readinto(self, view: memoryview) -> int:
        """The next bytes."""
        count = min(len(view), len(self._data))
        view[:count] = self._data[:count]
        self._data = self._data[count:]
        return count

    def skip(self, count: int) -> None:
        """Leave out bytes."""
        self._data = self._data[count:]

    def finish(self) -> Stamp:
        """It holds still."""
        return self.stamp

    def close(self) -> None:
        """Nothing to close."""


class MadeTarget:
    """Holds every file with right content and wrong mode, so that a restore writes metadata alone; counts it."""

    url = "made:"

    def __init__(self) -> None:
        self.notes = Notes()
        self.counts = dict.fromkeys(("files", "directories", "others", "links", "refreshed", "deleted", "bytes"), 0)
        self.span = None

    def probe(self) -> TargetFacts:
        """It is there, and keeps neither owners nor extended attributes."""
        return TargetFacts(exists=True, empty=False, free=None, owners=False, xattrs=False)

    @contextmanager
    def reader(self) -> Iterator[MadeTarget]:
        """Itself."""
        yield self

    @contextmanager
    def writer(self, *, owners: str = "id") -> Iterator[MadeTarget]:
        """Itself."""
        yield self

    def look(self, directory: bytes, rows: pa.Table) -> pa.RecordBatch:
        """Every row is there; the mode of files is wrong."""
        count = rows.num_rows
        file = rows["kind"].to_numpy() == Kind.FILE
        numbers = np.array([int(name[5:13]) if name.startswith(b"part-") else 0 for name in rows["name"].to_pylist()])
        columns: dict[str, Any] = stat_columns(numbers)
        found = {name: np.where(file, columns[name], 0) for name in ("size", "mtime", "mtime_ns")}
        found |= {"kind": rows["kind"].to_numpy(), "mode": np.where(file, 0o600, 0o755)}
        found |= {name: np.zeros(count, np.int64) for name in ("uid", "gid", "rdev")}
        found["unfinished"] = np.zeros(count, bool)
        arrays = [
            pa.array(found[field.name], field.type) if field.name in found else pa.nulls(count, field.type)
            for field in FOUND
        ]
        return pa.record_batch(arrays, schema=FOUND)

    def beside(self, asked: Asked) -> Beside:
        """No restore here deletes."""
        raise NotImplementedError

    def open(self, directory: bytes, name: bytes) -> None:
        """Nothing can be read."""

    def directories(self, rows: Rows) -> None:
        """Count them."""
        self.counts["directories"] += len(rows)

    def refresh(self, rows: Rows) -> None:
        """Count them."""
        self.counts["refreshed"] += len(rows)

    def finish(self, rows: Rows) -> None:
        """Directories have been counted."""

    def nodes(self, rows: Rows) -> None:
        """Count them."""
        self.counts["others"] += len(rows)

    def files(self, rows: Rows, data: memoryview, at: list[int], size: list[int]) -> None:
        """Count whole files."""
        self.counts["files"] += len(rows)
        self.counts["bytes"] += sum(size)

    def begin(self, number: int, row: Rows, pieces: int) -> None:
        """Files here are one piece."""
        raise NotImplementedError

    def begun(self, number: int) -> bool:
        """Files here are one piece."""
        return False

    def write(self, number: int, offset: int, data: memoryview) -> None:
        """Files here are one piece."""
        raise NotImplementedError

    def abandon(self, number: int) -> None:
        """Nothing was begun."""

    def links(self, rows: Rows, leaders: list[tuple[bytes, bytes]]) -> None:
        """No file has two names."""
        self.counts["links"] += len(rows)

    def remove(self, extra: Extra) -> None:
        """No restore here deletes."""
        raise NotImplementedError


def stat_columns(numbers: np.ndarray) -> dict[str, Any]:
    """What a listing says of files by number: as incompressible as the stats of real files written over a year."""
    mixed = _mixed(numbers.astype(np.uint64))
    second = _mixed(mixed)
    size = (mixed % 4096).astype(np.int64) + 1
    zero, one = np.zeros(len(numbers), np.int64), np.ones(len(numbers), np.int64)
    return {
        "kind": np.full(len(numbers), Kind.FILE, np.uint8),
        "size": size,
        "mode": np.full(len(numbers), 0o644, np.uint32),
        "uid": zero.astype(np.uint32) + 1000,
        "gid": zero.astype(np.uint32) + 1000,
        "mtime": EPOCH + (mixed >> np.uint64(20)).astype(np.int64) % YEAR,
        "mtime_ns": ((second >> np.uint64(8)) % 10**9).astype(np.int32),
        "ctime": EPOCH + YEAR + numbers.astype(np.int64) // 2000,
        "ctime_ns": ((second >> np.uint64(30)) % 10**9).astype(np.int32),
        "inode": (numbers.astype(np.uint64) * 2 + mixed % 2 + 131_072),
        "device": one.astype(np.uint64),
        "nlink": one.astype(np.uint32),
        "rdev": zero.astype(np.uint64),
        "state": zero.astype(np.uint8),
    }


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Well mixed 64 bits for each number (the finalizer of splitmix64)."""
    mixed = numbers + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: np.ndarray = mixed ^ (mixed >> np.uint64(31))
    return result


def _directories(parent: bytes, own: bytes, names: Sequence[bytes]) -> pa.RecordBatch:
    count = len(names)
    columns = {name: pa.array(np.zeros(count), INVENTORY.field(name).type) for name in INVENTORY.names[2:]}
    columns["dir"] = pa.array([parent] * count, pa.binary()).dictionary_encode()
    columns["name"] = pa.array(list(names), pa.binary())
    columns["kind"] = pa.array(np.full(count, Kind.DIRECTORY, np.uint8))
    columns["mode"] = pa.array(np.full(count, 0o755, np.uint32))
    columns["nlink"] = pa.array(np.full(count, 2, np.uint32))
    table = pa.table(columns, schema=INVENTORY)
    return table.combine_chunks().to_batches()[0]


def _project(number: int) -> bytes:
    return b"project-%06d" % number


def _folder(number: int) -> bytes:
    return b"measurements-%04d" % number


def _name(number: int) -> bytes:
    return b"part-%08d.bin" % number
