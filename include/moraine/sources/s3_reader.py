"""Reads objects of a bucket, a few MiB at a time. Knows ranges and ETags, nothing of listings or chunks.

An object never changes in place: all parts are asked for by the ETag of the first one, so what is read is one version,
or the reader notices. Where the listing named a version, that one is read, whatever came after it.
"""

from __future__ import annotations

import json
from types import TracebackType
from typing import Self

from moraine.model.entry import Kind, join_path
from moraine.model.xattrs import encode_xattrs
from moraine.sources.base import Attributes, Stamp, Wanted
from moraine.sources.s3_ahead import PART, ReadAhead
from moraine.sources.s3_client import ChangedMeanwhile, Found, S3Bucket
from moraine.sources.s3_names import key_of
from moraine.sources.s3_rows import stamp_of

_CHANGED = Stamp(-1, 0, 0, 0)  # equal to that of no object


class S3File:
    """One object being read (`sources.base.OpenFile`)."""

    def __init__(self, bucket: S3Bucket, key: str, beginning: Found) -> None:
        """Go on from the beginning of the object: all of most objects."""
        self._bucket = bucket
        self.key = key
        self.found = found = beginning
        self.stamp = stamp_of(found.size, found.modified, found.etag, found.version)
        self._part = memoryview(found.data)
        self._next = len(self._part)  # where the next part begins
        self._changed = False

    def extents(self) -> list[tuple[int, int]] | None:
        """None: objects have no holes."""
        return None

    def readinto(self, view: memoryview) -> int:
        """Fill `view` with the next bytes; an object that was replaced meanwhile ends early."""
        done = 0
        while done < len(view) and (self._part or self._fetch()):
            count = min(len(view) - done, len(self._part))
            view[done : done + count] = self._part[:count]
            self._part = self._part[count:]
            done += count
        return done

    def skip(self, count: int) -> None:
        """Leave out the next `count` bytes; those that are not here yet are never asked for."""
        here = min(count, len(self._part))
        self._part = self._part[here:]
        self._next += count - here

    def _fetch(self) -> bool:
        if self._changed or self._next >= self.stamp.size:
            return False
        try:
            found = self._bucket.read(self.key, self._next, PART, etag=self.found.etag, version=self.found.version)
        except ChangedMeanwhile:
            self._changed = True
            return False
        self._changed = found.etag != self.found.etag or not found.data  # a server that ignores If-Match
        self._part = memoryview(b"" if self._changed else found.data)
        self._next += len(self._part)
        return bool(self._part)

    def finish(self) -> Stamp:
        """The stamp of the object that was read, or of none if another one took its place while it was."""
        self.close()
        return _CHANGED if self._changed else self.stamp

    def close(self) -> None:
        """Let the part at hand go."""
        self._part = memoryview(b"")


class S3Reader:
    """Reads objects under a prefix (`sources.base.Reader`). For one thread."""

    def __init__(self, bucket: S3Bucket, prefix: str) -> None:
        """Use the reader in a `with` statement."""
        self._bucket = bucket
        self._prefix = prefix
        self._ahead = ReadAhead(bucket)
        self._last: S3File | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._last = None
        self._ahead.close()

    def expect(self, wanted: list[Wanted]) -> None:
        """Fetch ahead what is opened next, in the versions that were listed."""
        self._ahead.expect(
            [
                (self._key(item.directory, item.name), item.size, item.version.decode() if item.version else None)
                for item in wanted
            ]
        )

    def open(self, directory: bytes, name: bytes, listed: Stamp | None = None) -> S3File:
        """Open an object.

        Raises:
            SourceVanished: no object has this key any more.
            SourceDenied: it may not be read, or is in a storage class that has to be restored first.
            AccessDenied, StoreUnavailable: not this object but the bucket cannot be read.
        """
        del listed  # the answer that content comes with has the stamp
        key = self._key(directory, name)
        self._last = S3File(self._bucket, key, self._ahead.take(key))
        return self._last

    def attributes(self, directory: bytes, name: bytes, kind: int, uid: int, gid: int) -> Attributes:
        """Metadata and headers as extended attributes `user.s3.…`; directories have none. Errors as `open`."""
        del uid, gid
        if kind != Kind.FILE:
            return Attributes()
        key = self._key(directory, name)
        if self._last is not None and self._last.key == key:
            return Attributes(xattrs=_xattrs(self._last.found))
        return Attributes(xattrs=_xattrs(self._bucket.look(key, version=self._ahead.versions.get(key))))

    def _key(self, directory: bytes, name: bytes) -> str:
        return self._prefix + key_of(join_path(directory, name)).decode()


def _xattrs(found: Found) -> bytes | None:
    attributes = {b"user.s3." + name.encode(): value.encode() for name, value in found.headers.items()}
    if found.version:
        attributes[b"user.s3.version-id"] = found.version.encode()
    if found.metadata:  # as one: a name of metadata may be longer than that of an attribute
        text = json.dumps(found.metadata, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        attributes[b"user.s3.metadata"] = text.encode()
    return encode_xattrs(attributes)
