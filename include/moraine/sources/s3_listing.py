"""Lists a bucket in the order of a tree, though S3 lists in the byte order of whole keys (`a-b` before `a/b`).

Of the keys under a prefix a few pages are asked for: when they hold all, the whole subtree is put in order in memory;
when not, this level alone is listed with a delimiter, and then each prefix below it in turn. So a subtree of up to
16,000 keys costs a request per 1,000, and a larger one at most as many more as there are levels of such above it; the
worst are a great many tiny directories in one, a request each. What is held at a time is the largest single directory
(as columns) and the names of the directories still to come on the way down.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from moraine.model import compute as pc
from moraine.model.entry import State, join_path
from moraine.model.schemas import INVENTORY
from moraine.sources.base import ListShard
from moraine.sources.excludes import ExcludeRules
from moraine.sources.posix_columns import in_order
from moraine.sources.s3_client import Listed, Page
from moraine.sources.s3_names import LONGEST, directory_of, names_of
from moraine.sources.s3_rows import ObjectRows

_BATCH_ROWS = 1 << 14
_SUBTREE_PAGES = 16  # what is put in order in memory
_PROBE_PAGES = 64  # what is asked for, at most, to find out where to cut
_PARTS_PER_SHARD = 8  # finer than needed, so that shards even out
_MARK = pa.scalar(b"%=", pa.binary())
_NOTHING = pa.scalar(b"", pa.binary())


class Pages(Protocol):
    """What lists objects by prefix, page by page."""

    def page(self, prefix: str, *, delimiter: str = "", token: str | None = None, most: int = 1000) -> Page:
        """A page of the keys under `prefix`; with a delimiter those behind it are one prefix."""


class _Nested(NamedTuple):
    """Something that is that many names below a directory."""

    names: tuple[bytes, ...]
    found: Listed | str  # an object, or the prefix that a directory stands for


class _Level:
    """What lies directly under one prefix. Many objects are packed into columns as they come."""

    def __init__(self, directory: bytes) -> None:
        self.directory = directory
        self.batches: list[pa.RecordBatch] = []
        self._prefixes: dict[str, bytes] = {}  # and the part of the key that each adds
        self._plain: list[tuple[bytes, Listed]] = []
        self._late: list[tuple[bytes, Listed]] = []  # parts too long to say what they become before the end

    def add_prefix(self, prefix: str, part: bytes) -> None:
        self._prefixes[prefix] = part

    def add(self, part: bytes, item: Listed) -> None:
        names = names_of(part)
        if len(names) > 1 or len(names[0]) > LONGEST - 2:
            self._late.append((part, item))
            return
        self._plain.append((names[0], item))
        if len(self._plain) >= _BATCH_ROWS:
            rows = ObjectRows()
            rows.add(self.directory, self._plain)
            self.batches.append(rows.take())
            self._plain.clear()

    def close(self) -> list[_Nested]:
        """What is not packed; names that are directories too are marked everywhere."""
        parts = set(self._prefixes.values())
        taken = {names[0] for part in parts if len(names := names_of(part)) == 1}
        if taken and self.batches:
            self.batches = [_marked(batch, pa.array(sorted(taken), pa.binary())) for batch in self.batches]
        nested = [_Nested((b"%=" + name if name in taken else name,), item) for name, item in self._plain]
        nested += [_Nested(names_of(part, also_prefix=part in parts), item) for part, item in self._late]
        return nested + [_Nested(names_of(part), prefix) for prefix, part in self._prefixes.items()]


class _Pending(NamedTuple):
    """A directory still to be delivered: of a prefix, or one that only the length of names has made."""

    directory: bytes
    prefix: str | None
    nested: list[_Nested]
    known: dict[str, _Level] | None  # levels that are seen in full


class Listing:
    """One walk through the keys under a prefix, or through the directories of one shard of it."""

    def __init__(self, bucket: Pages, prefix: str, excludes: ExcludeRules, shard: ListShard | None = None) -> None:
        """Get ready; nothing is listed yet."""
        self._bucket = bucket
        self._root = prefix
        self._start = _key(shard.roots[0]) if shard else b""
        self._end = _key(shard.stop_at[0]) if shard and shard.stop_at else None
        self._excludes = excludes
        self._larger_than = sys.maxsize if excludes.larger_than is None else excludes.larger_than
        self._rows = ObjectRows()
        self._asked = 0  # pages with a delimiter
        self.archived = 0  # objects delivered that cannot be read from their storage class

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Batches of rows (`s3_rows.LISTED`) in manifest order."""
        for batch in self._walk():
            self.archived += int(np.count_nonzero(batch.column("state").to_numpy() == State.DENIED))
            yield batch

    def _walk(self) -> Iterator[pa.RecordBatch]:
        """With a stack and no recursion: a key may hold 1,024 slashes."""
        if not self._start:
            self._rows.add(b"", [(b"", None)])
        stack = [_Pending(b"", self._root, [], None)]
        while stack:
            pending = stack.pop()
            key = _key(pending.directory)
            if self._end is not None and key >= self._end:
                break
            packed: list[pa.RecordBatch] = []
            nested, known = pending.nested, pending.known
            if pending.prefix is not None:
                if key < self._start and known is None:  # only passed through
                    level = self._wide_level(pending.prefix)
                else:
                    level, known = self._level(pending.prefix, known)
                nested, packed = level.close(), level.batches
            below = self._below(pending.directory, nested, known)
            if key >= self._start:
                yield from self._deliver(pending.directory, packed, nested, below)
            stack += reversed([child for child in below if self._reaches(child.directory)])
        if len(self._rows):
            yield self._rows.take()

    def _reaches(self, directory: bytes) -> bool:
        """Whether something of a directory may lie behind the start of the shard."""
        key = _key(directory)
        return key >= self._start or self._start.startswith(key + b"\0")

    def split(self, want: int) -> list[ListShard]:
        """At most `want` shards of about as many directories, found breadth first and without looking at all of them.

        What a few pages hold is one shard.
        """
        token: str | None = ""
        for _ in range(_SUBTREE_PAGES if want > 1 else 0):
            token = self._bucket.page(self._root, token=token).token if token is not None else None
        if not token:
            return [ListShard("all")]
        found: list[_Pending] = []
        level = [_Pending(b"", self._root, [], None)]
        while level and len(found) + len(level) < want * _PARTS_PER_SHARD and self._asked < _PROBE_PAGES:
            found += level
            level = [below for pending in level for below in self._directories(pending)]
        paths = sorted((pending.directory for pending in [*found, *level]), key=_key)
        starts = [paths[number] for number in sorted({len(paths) * number // want for number in range(want)})]
        return [
            ListShard(f"part-{number:03}" if len(starts) > 1 else "all", (start,), (end,) if end else ())
            for number, (start, end) in enumerate(zip(starts, [*starts[1:], b""], strict=True), start=1)
        ]

    def _directories(self, pending: _Pending) -> list[_Pending]:
        if pending.prefix is None:
            return []
        return self._below(pending.directory, self._wide_level(pending.prefix, _PROBE_PAGES).close(), None)

    def _level(self, prefix: str, known: dict[str, _Level] | None) -> tuple[_Level, dict[str, _Level] | None]:
        if known is not None:
            return known[prefix], known
        objects: list[Listed] = []
        token: str | None = ""
        for _ in range(_SUBTREE_PAGES):
            page = self._bucket.page(prefix, token=token)
            objects += page.objects
            token = page.token
            if token is None:
                known = self._subtree(prefix, objects)
                return known[prefix], known
        return self._wide_level(prefix), None

    def _wide_level(self, prefix: str, most: int = sys.maxsize) -> _Level:
        """One level that is too large to be seen with all that lies below it, or as far as `most` requests reach."""
        level = self._new_level(prefix)
        token: str | None = ""
        while token is not None and self._asked < most:
            self._asked += 1
            page = self._bucket.page(prefix, delimiter="/", token=token)
            for item in page.objects:
                self._add(level, prefix, item)
            for below in page.prefixes:
                level.add_prefix(below, below[len(prefix) : -1].encode())
            token = page.token
        return level

    def _subtree(self, top: str, objects: list[Listed]) -> dict[str, _Level]:
        """The levels of a subtree whose keys are all at hand."""
        levels = {top: self._new_level(top)}
        for item in objects:
            parent = top
            while (slash := item.key.find("/", len(parent))) >= 0:
                prefix = item.key[: slash + 1]
                if prefix not in levels:
                    levels[prefix] = self._new_level(prefix)
                    levels[parent].add_prefix(prefix, prefix[len(parent) : -1].encode())
                parent = prefix
            self._add(levels[parent], parent, item)
        return levels

    def _new_level(self, prefix: str) -> _Level:
        return _Level(directory_of(prefix[len(self._root) :].encode()))

    def _add(self, level: _Level, prefix: str, item: Listed) -> None:
        if item.size <= self._larger_than:
            level.add(item.key[len(prefix) :].encode(), item)

    def _below(self, directory: bytes, nested: list[_Nested], known: dict[str, _Level] | None) -> list[_Pending]:
        """The directories in a directory, in order, without the excluded ones."""
        inside: dict[bytes, list[_Nested]] = {}
        prefixes: dict[bytes, str] = {}
        for names, found in nested:
            if len(names) > 1:
                inside.setdefault(names[0], []).append(_Nested(names[1:], found))
            elif isinstance(found, str):
                prefixes[names[0]] = found
        return [
            _Pending(join_path(directory, name), prefixes.get(name), inside.get(name, []), known)
            for name in self._kept(directory, sorted(prefixes.keys() | inside.keys()), directories=True)
        ]

    def _deliver(
        self, directory: bytes, packed: list[pa.RecordBatch], nested: list[_Nested], below: list[_Pending]
    ) -> Iterator[pa.RecordBatch]:
        """The rows of one directory; those of small ones are held back until they fill a batch."""
        objects = {names[0]: item for names, item in nested if len(names) == 1 and isinstance(item, Listed)}
        entries: dict[bytes, Listed | None] = {name: objects[name] for name in self._kept(directory, list(objects))}
        entries |= {pending.directory.rpartition(b"/")[2]: None for pending in below}
        if packed:
            if len(self._rows):
                yield self._rows.take()
            self._rows.add(directory, entries.items())
            rest = [self._rows.take()] if entries else []
            yield from in_order([*(self._kept_rows(directory, batch) for batch in packed), *rest], _BATCH_ROWS)
            return
        self._rows.add(directory, sorted(entries.items(), key=lambda entry: entry[0]))
        if len(self._rows) >= _BATCH_ROWS:
            yield self._rows.take()

    def _kept_rows(self, directory: bytes, batch: pa.RecordBatch) -> pa.RecordBatch:
        if not self._excludes.patterns:
            return batch
        kept = set(self._kept(directory, batch.column("name").to_pylist()))
        return batch.filter(pa.array([name in kept for name in batch.column("name").to_pylist()]))

    def _kept(self, directory: bytes, names: list[bytes], *, directories: bool = False) -> list[bytes]:
        excluded = self._excludes.matcher.within(directory) if self._excludes.patterns else None
        if excluded is None:
            return names
        return [name for name in names if not excluded(os.fsdecode(name), directories)]


def _key(directory: bytes) -> bytes:
    """Directories in manifest order have these in byte order."""
    return directory.replace(b"/", b"\0")


def _marked(batch: pa.RecordBatch, taken: pa.Array) -> pa.RecordBatch:
    names = batch.column("name")
    marked = pc.binary_join_element_wise(_MARK, names, _NOTHING)
    names = pc.if_else(pc.is_in(names, value_set=taken), marked, names)
    place = INVENTORY.get_field_index("name")
    return batch.set_column(place, INVENTORY.field("name"), names)
