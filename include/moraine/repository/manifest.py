"""Manifests: path-sorted Parquet shards that later snapshots reuse, overlaid by small deltas.

A night writes its changed rows as one delta over the whole path range. Only where the deltas of a shard's range have
grown past an eighth of it is that shard rewritten. So the bytes a night writes are linear in its change (each changed
row is written once, and about eight neighbours are rewritten for it over time), at any size of tree; the idea is the
log-structured merge tree's, with two levels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from moraine.engine.rows import Cursor, key_at, lay_over, overlay, rechunk
from moraine.errors import MissingObject, ObjectNotFound
from moraine.model import compute as pc
from moraine.model.entry import Op, row_key
from moraine.model.record import dataclass
from moraine.model.schemas import MANIFEST
from moraine.model.snapshot import DeltaRef, ShardRef, Snapshot
from moraine.repository.documents import digest
from moraine.repository.keys import Keyring
from moraine.repository.objects import Objects
from moraine.repository.tables import read_table, write_table
from moraine.stores.base import Store

DELTA = pa.schema([*MANIFEST, pa.field("op", pa.uint8(), nullable=False)])
MAX_DELTAS = 16
_SMALLEST_SHARD = 1 << 15  # 50,000 files are one object: a repository has few of them, and a listing reads few
_LARGEST_SHARD = 1 << 18


class Manifest:
    """The rows of one snapshot, window by window."""

    def __init__(self, store: Store | Objects, keyring: Keyring, snapshot: Snapshot) -> None:
        self._objects = Objects.of(store)
        self._keyring = keyring
        self._snapshot = snapshot
        self.rows = snapshot.rows

    def tables(self, columns: Sequence[str] | None = None, under: bytes | None = None) -> Iterator[pa.Table]:
        """Rows in manifest order, one bounded table per shard; `under` keeps one entry and its subtree."""
        needed = None if columns is None else list(dict.fromkeys(["dir", "name", *columns]))
        for table in self._windows(needed, under):
            kept = table if under is None else table.filter(_under_mask(table, under))
            if kept.num_rows:
                yield kept if columns is None else kept.select(list(columns))

    def table(self, columns: Sequence[str] | None = None, under: bytes | None = None) -> pa.Table:
        """All of that in one table: for small manifests and subtrees."""
        tables = list(self.tables(columns, under))
        schema = MANIFEST if columns is None else pa.schema([MANIFEST.field(c) for c in columns])
        return pa.concat_tables(tables).unify_dictionaries() if tables else schema.empty_table()

    def load(self, ref: ShardRef | DeltaRef, columns: Sequence[str] | None = None) -> pa.Table:
        """One object of the manifest. Raises MissingObject, DamagedObject."""
        try:
            data = self._objects.get(ref.key)
        except ObjectNotFound as error:
            raise MissingObject(
                f"{ref.key}, a part of snapshot {self._snapshot.id}, is gone",
                hint="restore the object from a copy of the store",
                object=ref.key,
            ) from error
        table = read_table(data, key=ref.key, keyring=self._keyring, expect=ref.digest, columns=columns)
        return _completed(table, columns)

    def ahead(self) -> None:
        """Everything will be read soon: where the store is far away, the first objects are fetched from now on."""
        self._ahead(self._snapshot.shards)

    def delta_cursors(self, columns: Sequence[str] | None = None) -> list[tuple[int, Cursor]]:
        """(sequence, cursor) of every delta, oldest first; pieces of one delta follow each other in path order."""
        wanted = None if columns is None else [*columns, "op"]
        found: list[tuple[int, Cursor]] = []
        self._ahead(())
        for sequence in sorted({delta.sequence for delta in self._snapshot.deltas}):
            pieces = [delta for delta in self._snapshot.deltas if delta.sequence == sequence]
            found.append((sequence, Cursor(self.load(piece, wanted) for piece in pieces)))
        return found

    def _ahead(self, shards: Sequence[ShardRef]) -> None:
        refs: list[ShardRef | DeltaRef] = [*self._snapshot.deltas, *shards]
        next(self._objects.walk(refs), None)

    def _windows(self, columns: list[str] | None, under: bytes | None) -> Iterator[pa.Table]:
        shards = self._snapshot.shards
        ends = [*(shard.first for shard in shards[1:]), None]
        inside = [under is None or _overlaps(shard.first, end, under) for shard, end in zip(shards, ends, strict=False)]
        chosen = [shard for shard, wanted in zip(shards, inside, strict=True) if wanted]
        self._ahead(chosen)
        coming = self._objects.walk(chosen)
        deltas = self.delta_cursors(columns)
        for shard, end, wanted in zip(shards, ends, inside, strict=False):
            changed = take_window(deltas, shard.after, end)
            if not wanted:
                continue
            next(coming)
            base = self.load(shard, columns) if shard.rows else None
            if base is not None or changed:
                yield merge_window(base, changed)


@dataclass(frozen=True, slots=True)
class Written:
    """What a commit wrote: the manifest of the new snapshot, and how many bytes it took."""

    shards: tuple[ShardRef, ...]
    deltas: tuple[DeltaRef, ...]
    sequence: int
    bytes: int


class ManifestWriter:
    """Writes the manifest of a new snapshot over its parent's."""

    def __init__(self, store: Store, keyring: Keyring, make_key: Callable[[str], str], rows: int) -> None:
        self._store = store
        self._keyring = keyring
        self._make_key = make_key  # kind ("shard" or "delta") → new object key
        self._target = shard_rows(rows)
        self._bytes = 0

    def write_first(self, rows: Iterable[pa.Table]) -> Written:
        """A manifest without a parent, from all its rows (MANIFEST) in order."""
        return Written(tuple(self._range(rows, b"", 0)), (), 0, self._bytes)

    def write_next(self, parent: Manifest, snapshot: Snapshot, changes: Iterable[pa.Table]) -> Written:
        """The parent's manifest with `changes` (DELTA rows in order) laid over it."""
        sequence = snapshot.sequence + 1
        old = parent.delta_cursors()
        full = len(old) >= MAX_DELTAS  # then every window with pending rows is rewritten, and the deltas go
        cursor = Cursor(changes)
        shards: list[ShardRef] = []
        fresh: list[pa.Table] = []
        for number, shard in enumerate(snapshot.shards):
            end = snapshot.shards[number + 1].first if number + 1 < len(snapshot.shards) else None
            pending = take_window(old, shard.after, end)
            new = list(cursor.take_before(end))
            count = shard.pending + sum(table.num_rows for table in new)
            if count and (full or count > max(64, shard.rows // 8)):
                base = parent.load(shard) if shard.rows else None
                merged = merge_window(base, pending + new)
                shards += self._range([merged], shard.first, sequence)
            else:
                fresh += new
                shards.append(replace(shard, pending=count))
        deltas = [d for d in snapshot.deltas if any(s.pending and s.after < d.sequence for s in shards)]
        deltas += self._deltas(fresh, sequence)
        return Written(tuple(shards if deltas else _joined(shards)), tuple(deltas), sequence, self._bytes)

    def _range(self, rows: Iterable[pa.Table], first: bytes, sequence: int) -> list[ShardRef]:
        """Shards for the range from `first`. One without rows keeps its place: it hides the deltas it has taken in."""
        shards: list[ShardRef] = []
        for table in rechunk(rows, self._target):
            key = self._make_key("shard")
            start = key_at(table, 0) if shards else first
            shards.append(ShardRef(key, self._put(key, table.select(MANIFEST.names)), table.num_rows, start, sequence))
        return shards or [ShardRef("", "", 0, first, sequence)]

    def _deltas(self, rows: list[pa.Table], sequence: int) -> Iterator[DeltaRef]:
        for table in rechunk(rows, _LARGEST_SHARD):
            key = self._make_key("delta")
            yield DeltaRef(key, self._put(key, table), table.num_rows, sequence)

    def _put(self, key: str, table: pa.Table) -> str:
        data = write_table(table, key=key, keyring=self._keyring)
        self._store.put(key, data)
        self._bytes += len(data)
        return digest(data)


def _completed(table: pa.Table, columns: Sequence[str] | None) -> pa.Table:
    """The table with a column of nulls for each one that was not known yet when its object was written."""
    names = [*MANIFEST.names, *(["op"] if "op" in table.schema.names else [])] if columns is None else list(columns)
    if table.schema.names == names:
        return table
    for name in set(names) - set(table.schema.names):
        table = table.append_column(name, pa.nulls(table.num_rows, MANIFEST.field(name).type))
    return table.select(names)


def shard_rows(rows: int) -> int:
    """Rows per shard for a tree of `rows`: a power of two, growing so that 10⁸ rows make about 400 shards."""
    wanted = max(_SMALLEST_SHARD, min(_LARGEST_SHARD, rows // 256))
    return 1 << (wanted - 1).bit_length()


def take_window(deltas: list[tuple[int, Cursor]], after: int, end: bytes | None) -> list[pa.Table]:
    """The delta tables of one shard's range, oldest first; those the shard already contains are passed over."""
    tables: list[pa.Table] = []
    for sequence, cursor in deltas:
        taken = list(cursor.take_before(end))
        if sequence > after:
            tables += taken
    return tables


def merge_window(base: pa.Table | None, changed: list[pa.Table]) -> pa.Table:
    """A shard's rows with its delta tables laid over; deleted entries are gone."""
    if not changed:
        assert base is not None
        return base
    merged = overlay(changed)
    if base is not None:
        base = base.append_column(DELTA.field("op"), pa.repeat(pa.scalar(0, pa.uint8()), base.num_rows))
        merged = lay_over(base, merged.select(base.schema.names))
    gone = pc.equal(merged["op"], int(Op.DELETED))
    return (pc.filter(merged, pc.invert(gone)) if np.asarray(gone).any() else merged).drop_columns(["op"])


def _joined(shards: list[ShardRef]) -> list[ShardRef]:
    """Without deltas nothing has to be hidden: empty ranges go to the shard before."""
    kept = [shard for shard in shards if shard.rows] or shards[:1]
    return [replace(kept[0], first=b""), *kept[1:]]


def _under_mask(table: pa.Table, under: bytes) -> pa.ChunkedArray:
    if not under:
        return pc.is_valid(table["name"])
    parent, _, name = under.rpartition(b"/")
    directories = table["dir"].cast(pa.binary())
    itself = pc.and_(pc.equal(directories, parent), pc.equal(table["name"], name))
    inside = pc.or_(pc.equal(directories, under), pc.starts_with(directories, under + b"/"))
    return pc.or_(itself, inside)


def _overlaps(first: bytes, end: bytes | None, under: bytes) -> bool:
    parent, _, name = under.rpartition(b"/")
    own = row_key(parent, name)
    low, high = under.replace(b"/", b"\0") + b"\0", under.replace(b"/", b"\0") + b"\1"
    holds_own = first <= own and (end is None or own < end)
    return not under or holds_own or (first < high and (end is None or low < end))
