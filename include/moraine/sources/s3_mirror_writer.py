"""Writes a mirror into a bucket: an object for each file, visible at once and whole, what it replaces copied before.

Requests wait for the network, so many are on their way at a time; what waits is bounded. A bucket has no directories,
links or devices: those are in the inventory alone, and so is what does not fit into an object's metadata.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from threading import BoundedSemaphore
from types import TracebackType
from typing import Any, Self

from moraine.model.entry import join_path
from moraine.model.xattrs import decode_xattrs
from moraine.sources.s3_mirror_client import MirrorBucket
from moraine.sources.s3_mirror_keys import Keys
from moraine.sources.s3_mirror_known import Known
from moraine.sources.s3_mirror_reader import S3Content
from moraine.sources.target import Code, Content, Notes, Rows

PART = 16 << 20
_PARTS = 10_000
_THREADS = 10  # requests that write; more of them wait for the interpreter
_WAITING = 48  # requests under way or about to be, each with up to a part of bytes
_HEADERS = {
    "content-type": "ContentType",
    "content-encoding": "ContentEncoding",
    "content-disposition": "ContentDisposition",
    "content-language": "ContentLanguage",
    "cache-control": "CacheControl",
    "website-redirect-location": "WebsiteRedirectLocation",
}


class S3Staged:
    """An object on its way (`sources.mirror.Staged`)."""

    def __init__(self, writer: S3MirrorWriter, rows: Rows, i: int) -> None:
        self._writer = writer
        self._key = writer.keys.key(join_path(rows.dir[i], rows.name[i]))
        self._headers = writer.headers(rows, i)
        self._part = max(PART, -(-rows.size[i] // (_PARTS - 1)))
        self._buffer = bytearray()
        self._sent = 0  # bytes in parts
        self._upload: str | None = None
        self._parts: list[Future[str]] = []

    def write(self, offset: int, data: memoryview) -> None:
        """Some of its bytes; a hole is zeros."""
        self._fill(offset)
        self._buffer += data
        self._send()

    def complete(self, rows: Rows, i: int, token: int, digest: bytes) -> None:
        """All bytes are there: send what is left."""
        del digest
        self._fill(rows.size[i])
        directory, name = rows.dir[i], rows.name[i]
        old = self._writer.known(directory, name)
        if self._upload is None:
            headers = self._writer.headers(rows, i)
            self._writer.start(token, self._key, lambda: self._put(old is not None, headers))
        else:
            parts = [part.result() for part in self._parts]
            parts.append(self._writer.bucket.part(self._key, self._upload, len(parts) + 1, bytes(self._buffer)))
            upload, self._upload = self._upload, None
            self._writer.start(token, self._key, lambda: self._end(old is not None, upload, parts))

    def discard(self) -> None:
        """Leave no trace."""
        upload, self._upload = self._upload, None
        if upload is not None:
            for part in self._parts:
                part.exception()
            self._writer.bucket.abort(self._key, upload)

    def _put(self, old: bool, headers: dict[str, Any]) -> None:
        if old:
            self._writer.trash(self._key)
        self._writer.bucket.put(self._key, self._buffer, headers, create=False)

    def _end(self, old: bool, upload: str, parts: list[str]) -> None:
        if old:
            self._writer.trash(self._key)
        self._writer.bucket.complete(self._key, upload, parts, create=False)

    def _fill(self, offset: int) -> None:
        while (missing := offset - self._sent - len(self._buffer)) > 0:
            self._buffer += bytes(min(missing, self._part))
            self._send()

    def _send(self) -> None:
        while len(self._buffer) >= self._part + 1:  # the last part is sent at the end, and never empty
            if self._upload is None:
                self._upload = self._writer.bucket.begin(self._key, self._headers)
            data = bytes(self._buffer[: self._part])
            del self._buffer[: self._part]
            self._sent += len(data)
            self._parts.append(
                self._writer.submit(
                    partial(self._writer.bucket.part, self._key, self._upload, len(self._parts) + 1, data)
                )
            )


class S3MirrorWriter:
    """One step's writing (`sources.mirror.MirrorWriter`)."""

    def __init__(self, bucket: MirrorBucket, prefix: str, keys: Keys, trash: str, *, from_bucket: bool) -> None:
        """Args: `trash` is the prefix of this run's."""
        self.notes = Notes()
        self.bucket = bucket
        self.keys = keys
        self._prefix = prefix
        self._trash = trash
        self._from_bucket = from_bucket
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="mirror")
        self._room = BoundedSemaphore(_WAITING)
        self._started: list[tuple[int, str, Future[Any]]] = []
        self._known = Known(bucket.reading)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._known.close()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def expect(self, files: Iterable[tuple[bytes, bytes]]) -> None:
        """Ask what is in their directories a little before their turn."""
        keys = []
        for directory, name in files:
            with suppress(OSError):  # it can have no key
                keys.append(self.keys.key(join_path(directory, name)))
        self._known.expect(keys)

    def stands(self, rows: Rows, i: int) -> Content | None:
        """The object that is there, if it has this size and, where it says so, this time."""
        try:
            if self.known(rows.dir[i], rows.name[i]) != rows.size[i]:
                return None
            key = self.keys.key(join_path(rows.dir[i], rows.name[i]))
        except OSError:
            return None
        if not self._from_bucket:
            found = self.bucket.reading.look(key)
            if found.metadata.get("mtime") != _seconds(rows.time[i]):
                return None
        return S3Content(self.bucket.reading, key)

    def directory(self, rows: Rows, i: int) -> None:
        """A bucket has none."""

    def node(self, rows: Rows, i: int, token: int) -> None:
        """A bucket has none."""

    def file(self, rows: Rows, i: int) -> S3Staged:
        """Begin an object. Raises OSError when it can have no key."""
        if rows.xattrs[i] is not None and not self._from_bucket:
            path = join_path(rows.dir[i], rows.name[i])
            self.notes.add(Code.ATTRIBUTE, path, "its extended attributes are in the inventory alone")
        return S3Staged(self, rows, i)

    def refresh(self, rows: Rows, i: int) -> None:
        """Give an object the metadata of its row."""
        key = self.keys.key(join_path(rows.dir[i], rows.name[i]))
        headers, size = self.headers(rows, i), rows.size[i]
        self.start(i, key, lambda: self.bucket.copy(key, key, headers, size))

    def flush(self) -> list[int]:
        """Wait for everything under way."""
        started, self._started = self._started, []
        refused = []
        for token, key, future in started:
            error = future.exception()
            if isinstance(error, OSError):
                refused.append(token)
                path = key.removeprefix(self._prefix).encode()
                self.notes.add(Code.FAILED, path, f"cannot be written: {error.strerror or error}")
            elif error is not None:
                raise error
        return refused

    def link(self, rows: Rows, i: int, leader: tuple[bytes, bytes]) -> bool:
        """A bucket has none: every name is an object of its own."""
        del rows, i, leader
        return False

    def remove(self, directory: bytes, name: bytes) -> None:
        """Copy an object to the trash and delete it."""
        key = self.keys.key(join_path(directory, name))

        def move() -> None:
            if self.trash(key):
                self.bucket.remove([key])

        self.start(-1, key, move)

    def finish(self, rows: Rows, i: int, *, attributes: bool) -> None:
        """A bucket has no directories."""

    def settle(self) -> None:
        """Wait: what a bucket has acknowledged is durable."""
        self.flush()

    def trash(self, key: str) -> bool:
        """Copy what is at a key to the trash; False when there is nothing."""
        return self.bucket.keep(key, self._trash + key.removeprefix(self._prefix))

    def known(self, directory: bytes, name: bytes) -> int | None:
        """The size of what is there. Raises OSError when it can have no key."""
        return self._known.size(self.keys.key(join_path(directory, name)))

    def start(self, token: int, key: str, do: Callable[[], Any]) -> None:
        """Have something done about a key; `flush` waits for it."""
        self._started.append((token, key, self.submit(do)))

    def submit(self, do: Callable[[], Any]) -> Future[Any]:
        """Have something done by another thread; waits while too much is under way."""
        self._room.acquire()
        try:
            future = self._pool.submit(do)
        except BaseException:
            self._room.release()
            raise
        future.add_done_callback(lambda _: self._room.release())
        return future

    def headers(self, rows: Rows, i: int) -> dict[str, Any]:
        """Headers and metadata of an object: those it came with, or what is known of a file."""
        if not self._from_bucket:
            mode = f"{0o100000 | rows.mode[i]:o}"
            owner = {"uid": str(rows.uid[i]), "gid": str(rows.gid[i])}
            return {"Metadata": {"mtime": _seconds(rows.time[i]), "mode": mode, **owner}}
        attributes = decode_xattrs(rows.xattrs[i])
        found: dict[str, Any] = {}
        for name, header in _HEADERS.items():
            value = attributes.get(b"user.s3." + name.encode())
            if value is not None:
                found[header] = value.decode()
        metadata = attributes.get(b"user.s3.metadata")
        return found | ({"Metadata": json.loads(metadata)} if metadata else {})


def _seconds(time: int) -> str:
    """Seconds since 1970 as other tools write them into metadata."""
    sign, rest = ("-", -time) if time < 0 else ("", time)
    return f"{sign}{rest // 10**9}.{rest % 10**9:09d}"
