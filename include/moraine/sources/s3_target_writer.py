"""Writes the entries of a snapshot into a bucket: which requests, in which order. See `TargetWriter`.

An object is there whole or not at all. What the plan found absent is created only if it is absent still. Requests run
in threads; their answers, and so all counts and notes, are taken in the caller's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

from moraine.model.entry import Kind, join_path
from moraine.sources.s3_client import S3Bucket
from moraine.sources.s3_sending import Sending
from moraine.sources.s3_target_files import Objects
from moraine.sources.s3_target_forms import Form, fitting
from moraine.sources.s3_writer import PART, Refused, S3Writer
from moraine.sources.target import Code, Extra, Notes, Rows

_TOGETHER = 1000


class S3TargetWriter:
    """One restore into a bucket (`sources.target.TargetWriter`)."""

    span: int | None = 8 * PART

    def __init__(
        self, write: S3Writer, bucket: S3Bucket, root: str, form: Form, sending: Sending, *, markers: bool
    ) -> None:
        self.notes = Notes()
        self._write = write
        self._bucket = bucket
        self._root = root
        self._form = form
        self._sending = sending
        self._markers = markers
        self._written = dict.fromkeys(("directories", "others", "links", "refreshed", "deleted"), 0)
        self._doomed: list[str] = []
        self._objects = Objects(write, bucket, root, form, sending, self.notes)
        self.files, self.begin, self.begun = self._objects.whole, self._objects.begin, self._objects.begun
        self.write, self.abandon = self._objects.write, self._objects.abandon

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None:
                self._settle()
        finally:
            self._sending.close()
            self._objects.close()

    @property
    def counts(self) -> dict[str, int]:
        """Entries written so far, and the stored bytes of files."""
        return {**self._written, "files": self._objects.count, "bytes": self._objects.stored}

    def directories(self, rows: Rows) -> None:
        """Nothing: what is in them makes them; objects for them come last."""

    def nodes(self, rows: Rows) -> None:
        """Make objects for symlinks, and say of FIFOs, sockets and devices that there can be none."""
        for i in range(len(rows)):
            self._node(rows, i, partial(self._count, "others"))

    def links(self, rows: Rows, leaders: list[tuple[bytes, bytes]]) -> None:
        """Copy, inside the bucket, the file that further names stand for."""
        self._sending.drain()
        for i, name in enumerate(rows.name):
            done = partial(self._linked, join_path(rows.dir[i], name))
            if rows.kind[i] == Kind.FILE:
                self._copy(rows, i, leaders[i], done)
            else:
                self._node(rows, i, done)

    def refresh(self, rows: Rows) -> None:
        """Give objects the metadata of their rows, by copying them onto themselves."""
        for i, name in enumerate(rows.name):
            if rows.kind[i] == Kind.SYMLINK:
                self._objects.put(rows, i, rows.target[i] or b"", partial(self._count, "refreshed"), create=False)
            else:
                self._copy(rows, i, (rows.dir[i], name), partial(self._count, "refreshed"))

    def remove(self, extra: Extra) -> None:
        """Delete an object, or all under a prefix; what is written before comes first."""
        self._sending.drain()
        if extra.kind != Kind.DIRECTORY:
            self._doomed.append(extra.place)
        else:
            token = None
            while True:
                page = self._bucket.page(extra.place, token=token)
                self._doomed += [item.key for item in page.objects]
                self._delete(_TOGETHER)
                token = page.token
                if not token:
                    break
        self._delete(_TOGETHER)

    def finish(self, rows: Rows) -> None:
        """Write the objects that stand for directories, if they are wanted."""
        self._settle()
        for i, name in enumerate(rows.name):
            if self._markers and name:
                self._objects.put(rows, i, b"", partial(self._count, "directories"), create=False)

    def _node(self, rows: Rows, i: int, done: Callable[[], None]) -> None:
        if rows.kind[i] == Kind.SYMLINK:
            self._objects.put(rows, i, rows.target[i] or b"", done)
        else:
            path = join_path(rows.dir[i], rows.name[i])
            self.notes.add(Code.SPECIAL, path, "a bucket holds no devices, FIFOs or sockets")

    def _settle(self) -> None:
        self._delete(1)
        self._sending.drain()

    def _copy(self, rows: Rows, i: int, source: tuple[bytes, bytes], done: Callable[[], None]) -> None:
        path = join_path(rows.dir[i], rows.name[i])
        try:
            here, there = fitting(self._root + self._form.key(*source)), self._objects.key(rows, i)
        except Refused as error:
            self.notes.add(Code.FAILED, path, str(error))
            return
        headers = self._form.headers(rows, i, named=True)

        def work() -> str | None:
            try:
                self._write.copy(here, there, headers, rows.size[i])
            except Refused as error:
                return str(error)
            return None

        def taken(why: str | None) -> None:
            if why is None:
                done()
            else:
                self.notes.add(Code.FAILED, path, f"cannot be copied inside the bucket: {why}")

        self._sending.send(0, work, taken)

    def _count(self, name: str) -> None:
        self._written[name] += 1

    def _linked(self, path: bytes) -> None:
        self._count("links")
        self.notes.add(Code.COPIED, path, "a bucket holds no hard links: this is a copy")

    def _delete(self, at_least: int) -> None:
        while len(self._doomed) >= at_least:
            keys, self._doomed = self._doomed[:_TOGETHER], self._doomed[_TOGETHER:]
            stay = self._write.delete(keys)
            for key, why in stay:
                self.notes.add(Code.EXTRA, key.encode(), f"cannot be deleted: {why}")
            self._written["deleted"] += len(keys) - len(stay)
