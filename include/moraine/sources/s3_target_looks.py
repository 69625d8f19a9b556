"""Looks at a bucket on behalf of a restore: what is at the keys of rows, what is beside them, an object's bytes.

Which keys there are, listings tell, as few as a tree allows; what is known of an object, a request for its head, of
which several are under way at once. So keys that are not there yet cost nothing each, those that are a request.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pyarrow as pa
from blake3 import blake3

from moraine.errors import SourceVanished
from moraine.model.entry import Kind, join_path, split_path
from moraine.sources.s3_client import ChangedMeanwhile, S3Bucket
from moraine.sources.s3_sending import Sending
from moraine.sources.s3_target_forms import NOTHING, Form, Row, Wanted, fitting
from moraine.sources.s3_writer import PART, Refused
from moraine.sources.target import FOUND, Asked, Extra

_SUBTREE_PAGES = 16  # of keys that are held together
_LONGEST_LINK = 4096


class _Keys:
    """The keys under a prefix: all of them, or those of one level and what the others begin with."""

    def __init__(self, prefix: str, *, whole: bool) -> None:
        self.prefix = prefix
        self.whole = whole
        self.sizes: dict[str, int] = {}
        self.prefixes: set[str] = set()

    def has(self, prefix: str) -> bool:
        """Whether this tells all that is to be known of one level."""
        return prefix == self.prefix or (self.whole and prefix.startswith(self.prefix))

    def add(self, key: str, size: int) -> None:
        self.sizes[key] = size
        slash = key.rfind("/")
        while slash >= len(self.prefix) and key[: slash + 1] not in self.prefixes:
            self.prefixes.add(key[: slash + 1])
            slash = key.rfind("/", 0, slash)


class S3Looker:
    """Looks at the objects under a prefix (`sources.target.TargetReader`)."""

    def __init__(self, bucket: S3Bucket, root: str, form: Form, sending: Sending, *, markers: bool) -> None:
        """`markers`: directories are objects of their own."""
        self._bucket = bucket
        self._root = root
        self._form = form
        self._sending = sending
        self._markers = markers
        self._known: list[_Keys] = []

    def look(self, directory: bytes, rows: pa.Table) -> pa.RecordBatch:
        """What is at these names."""
        level = self._level(self._root + self._form.prefix(directory))
        wanted = [Wanted(*row) for row in zip(*(rows[name].to_pylist() for name in Wanted._fields), strict=True)]
        asked: list[tuple[int, str]] = []
        found = [NOTHING] * len(wanted)
        for i, name in enumerate(rows["name"].to_pylist()):
            if wanted[i].kind == Kind.DIRECTORY:
                prefix = self._root + self._form.prefix(join_path(directory, name))
                if prefix == self._root or prefix in level.prefixes or prefix == level.prefix:
                    found[i] = Row(Kind.DIRECTORY, mode=None if prefix == self._root else 0)
                    asked += [(i, prefix)] * (self._markers and prefix != self._root)
                continue
            with suppress(Refused):  # what can have no key is not there
                key = self._root + self._form.key(directory, name)
                asked += [(i, key)] * (key in level.sizes)
        heads = self._sending.each(self._head, [(key, wanted[i]) for i, key in asked])
        for (i, _), row in zip(asked, heads, strict=True):
            if row.kind:
                found[i] = row._replace(kind=Kind.DIRECTORY) if wanted[i].kind == Kind.DIRECTORY else row
        columns = zip(*found, strict=True) if found else [[] for _ in FOUND]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, FOUND, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=FOUND)

    def beside(self, asked: Asked) -> S3Beside:
        """Get ready to find extras inside what was asked for."""
        return S3Beside(self._bucket, self._root, self._form, asked)

    def open(self, directory: bytes, name: bytes) -> S3Content | None:
        """An object, open for reading; None where there is none."""
        try:
            return S3Content(self._bucket, fitting(self._root + self._form.key(directory, name)))
        except (Refused, SourceVanished):
            return None

    def _head(self, asked: tuple[str, Wanted]) -> Row:
        key, wanted = asked
        try:
            row = self._form.row(self._bucket.look(key), wanted)
            if row.kind == Kind.SYMLINK:
                row = self._form.row(self._bucket.read(key, 0, _LONGEST_LINK), wanted)
            return row
        except SourceVanished:
            return NOTHING

    def _level(self, prefix: str) -> _Keys:
        """What is right under a prefix. Calls come from above to below: the last few answers serve most of them."""
        for keys in self._known:
            if keys.has(prefix):
                return keys
        keys = self._subtree(prefix) or self._alone(prefix)
        self._known = [keys, *(known for known in self._known if known.whole != keys.whole)]
        return keys

    def _subtree(self, prefix: str) -> _Keys | None:
        keys, token = _Keys(prefix, whole=True), None
        for _ in range(_SUBTREE_PAGES):
            page = self._bucket.page(prefix, token=token)
            for item in page.objects:
                keys.add(item.key, item.size)
            token = page.token
            if not token:
                return keys
        return None

    def _alone(self, prefix: str) -> _Keys:
        keys, token = _Keys(prefix, whole=False), None
        while True:
            page = self._bucket.page(prefix, delimiter="/", token=token)
            keys.sizes.update((item.key, item.size) for item in page.objects)
            keys.prefixes.update(page.prefixes)
            token = page.token
            if not token:
                return keys


class S3Content:
    """A restored object, open for reading (`sources.target.Content`); fetched part by part."""

    def __init__(self, bucket: S3Bucket, key: str) -> None:
        """Fetch its beginning. Raises SourceVanished when there is no such object."""
        self._bucket = bucket
        self._key = key
        self._found = bucket.read(key, 0, PART)
        self._start = 0
        self._part = memoryview(self._found.data)
        self.size = self._found.size

    def read_at(self, offset: int, view: memoryview) -> int:
        """Fill `view` from `offset`; fewer bytes only at the end, or where another object has taken its place."""
        done = 0
        while done < len(view) and offset + done < self.size:
            at = offset + done - self._start
            if not 0 <= at < len(self._part) and not self._fetch(offset + done):
                break
            at = offset + done - self._start
            count = min(len(view) - done, len(self._part) - at)
            view[done : done + count] = self._part[at : at + count]
            done += count
        return done

    def close(self) -> None:
        """Let the part at hand go."""
        self._part = memoryview(b"")

    def _fetch(self, offset: int) -> bool:
        try:
            found = self._bucket.read(self._key, offset, PART, etag=self._found.etag)
        except (ChangedMeanwhile, SourceVanished):
            return False
        self._start, self._part = offset, memoryview(found.data)
        return bool(found.data)


class S3Beside:
    """Finds keys that the snapshot has not (`sources.target.Beside`).

    It holds 8 bytes for each object of the snapshot, and a number for each directory.
    """

    def __init__(self, bucket: S3Bucket, root: str, form: Form, asked: Asked) -> None:
        """Nothing is listed yet."""
        self._bucket = bucket
        self._root = root
        self._form = form
        self._asked = asked
        self._objects = array("Q")
        self._folders = {_short("")}
        self._covered: tuple[bytes, bool] | None = None

    def known(self, directory: bytes, names: Sequence[bytes], kinds: Sequence[int]) -> None:
        """Some entries that the snapshot has."""
        for name, kind in zip(names, kinds, strict=True):
            if kind == Kind.DIRECTORY:
                self._folders.add(_short(self._form.prefix(join_path(directory, name))))
            else:
                self._objects.append(_short(self._form.key(directory, name)))

    def extras(self, there: Iterable[bytes]) -> list[Extra]:
        """Everything else under the prefix, neighbours that have a beginning of their own as one."""
        del there  # what is under the prefix is seen anyhow
        found: list[Extra] = []
        for key, size in self._strange():
            last = found[-1] if found else None
            if last and last.kind == Kind.DIRECTORY and key.startswith(last.place[len(self._root) :]):
                found[-1] = replace(last, entries=last.entries + 1, bytes=last.bytes + size)
                continue
            place, kind = self._stranger(key)
            if place and self._meant(place):
                directory, name = split_path(self._form.path(place))
                found.append(Extra(directory, name, kind, 1, size, self._root + place))
        return found

    def _strange(self) -> Iterator[tuple[str, int]]:
        """Keys, without the target's prefix and in byte order, that no object of the snapshot has."""
        objects, token = np.sort(np.array(self._objects, np.uint64)), None
        while True:
            page = self._bucket.page(self._root + self._form.prefix(self._asked.under), token=token)
            keys = [item.key[len(self._root) :] for item in page.objects]
            shorts = np.array([_short(key) for key in keys], np.uint64)
            known = np.searchsorted(objects, shorts, side="right") > np.searchsorted(objects, shorts)
            yield from ((keys[i], page.objects[i].size) for i in np.flatnonzero(~known).tolist())
            token = page.token
            if not token:
                return

    def _stranger(self, key: str) -> tuple[str, int]:
        """What of a key is not in the snapshot: its shortest beginning up to a slash, or all of it, or nothing."""
        slash = key.find("/")
        while slash >= 0:
            folder = key[: slash + 1]
            if _short(folder) not in self._folders:
                return folder, Kind.DIRECTORY
            slash = key.find("/", slash + 1)
        return ("", 0) if self._form.markers and key.endswith("/") else (key, Kind.FILE)

    def _meant(self, place: str) -> bool:
        path = self._form.path(place)
        directory = split_path(path)[0]
        if self._covered is None or self._covered[0] != directory:
            self._covered = (directory, self._asked.covers(directory))
        return self._covered[1] and not self._asked.excludes(path)


def _short(key: str) -> int:
    """Eight bytes that stand for a key; keys that share them, one in billions, would only keep an extra."""
    return int.from_bytes(blake3(key.encode()).digest(length=8), "little")
