"""Writing files into a bucket: small ones in one request, large ones in parts as these fill up. See `TargetWriter`.

Memory: the pieces of parts that are not full, which is what the port's span lets come out of order and a part for each
file in hand, and the bodies under way. An upload that is not completed is aborted: when its file cannot be, when the
restore fails, and, if the process was killed, by the next restore that writes the same key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import field, fields
from functools import partial

from moraine.errors import AccessDenied, DamagedObject, MoraineError, SourceVanished
from moraine.model.entry import Kind, join_path
from moraine.model.record import dataclass
from moraine.sources.extents import Extents
from moraine.sources.s3_client import S3Bucket
from moraine.sources.s3_sending import Sending
from moraine.sources.s3_target_forms import DIGEST, Form, etag_tells, fitting
from moraine.sources.s3_target_parts import Large
from moraine.sources.s3_writer import LARGEST, PART, AlreadyThere, Refused, S3Writer, UploadGone, part_size
from moraine.sources.target import Code, Notes, Rows, Verdict


@dataclass(frozen=True, slots=True)
class _Sent:
    """What became of a request: an ETag, or why there is none."""

    etag: str = ""
    why: str = ""
    there: bool = False  # another object is
    fresh: bool = False  # this very request wrote it


@dataclass(slots=True)
class Objects:
    """Writes files; one per restore."""

    service: S3Writer
    bucket: S3Bucket
    root: str
    form: Form
    sending: Sending
    notes: Notes
    count: int = 0
    stored: int = 0
    _etags_tell: bool = True  # until the service gives another ETag than the MD5 of what it was sent
    _large: dict[int, Large] = field(default_factory=dict)
    _begun: set[int] = field(default_factory=set)
    _numbered: int = 0  # of files that come whole and are large all the same: below 0
    _uploads: dict[str, str] = field(default_factory=dict)  # of this restore, under way: id → key
    _former: dict[str, list[str]] | None = None  # ids of those that were under way before, by key

    def key(self, rows: Rows, i: int) -> str:
        """The whole key of a row. Raises Refused when it can have none."""
        directory, name = rows.dir[i], rows.name[i]
        if rows.kind[i] == Kind.DIRECTORY:
            return fitting(self.root + self.form.prefix(join_path(directory, name)))
        return fitting(self.root + self.form.key(directory, name))

    def whole(self, rows: Rows, data: memoryview, at: list[int], size: list[int]) -> None:
        """See `TargetWriter.files`."""
        for i in range(len(rows)):
            body = data[at[i] : at[i] + size[i]]
            if rows.extents[i] is None and rows.size[i] < PART:
                self.put(rows, i, bytes(body), partial(self._done, size[i]))
            else:
                self._numbered -= 1
                self.begin(self._numbered, _one(rows, i), 1)
                self.write(self._numbered, 0, body)

    def put(
        self, rows: Rows, i: int, body: bytes | bytearray, done: Callable[[], None], *, create: bool | None = None
    ) -> None:
        """Write an object in one request; `create`: only where there is none, if not said as the row's verdict says."""
        path = join_path(rows.dir[i], rows.name[i])
        try:
            key = self.key(rows, i)
        except Refused as error:
            self.notes.add(Code.FAILED, path, str(error))
            return
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        headers = self.form.headers(
            rows, i, named=not (self._etags_tell and etag_tells(rows.inode[i], rows.xattrs[i], etag))
        )
        only = rows.verdict[i] == Verdict.CREATE if create is None else create
        send = partial(self.service.put, key, body, headers, create=only)

        def taken(sent: _Sent) -> None:
            self._etags_tell &= sent.etag in ("", etag)
            if sent.etag:
                done()
            else:
                self._refuse(path, sent)

        same = partial(self._same, key, len(body), etag, rows.digest[i])
        self.sending.send(len(body), partial(_attempt, send, same), taken)

    def begin(self, number: int, row: Rows, pieces: int) -> None:
        """See `TargetWriter.begin`."""
        self._begun.add(number)
        path, size, stored = join_path(row.dir[0], row.name[0]), row.size[0], row.extents[0]
        try:
            if size > LARGEST:
                raise Refused(f"an object has at most {LARGEST >> 40} TiB")
            extents = None if stored is None else Extents(stored, size, path)
            self._large[number] = Large(row, self.key(row, 0), path, pieces, part_size(size), extents)
        except Refused as error:
            self.notes.add(Code.FAILED, path, str(error))
        except DamagedObject as error:
            self.notes.add(Code.DAMAGED, path, error.message)
        else:
            if extents is not None:
                self.notes.add(Code.HOLES, path, "a bucket holds no sparse files: its holes are written as zeros")

    def begun(self, number: int) -> bool:
        """See `TargetWriter.begun`."""
        return number in self._begun

    def write(self, number: int, offset: int, data: memoryview) -> None:
        """See `TargetWriter.write`."""
        large = self._large.get(number)
        if large is None:
            return
        large.stored += len(data)
        try:
            for start, piece in large.extents.pieces(offset, data) if large.extents else [(offset, data)]:
                for part in large.add(start, piece):
                    self._send(number, large, part)
            large.left -= 1
            for part in large.rest() if not large.left else ():
                self._send(number, large, part)
        except DamagedObject as error:
            self.abandon(number)
            self.notes.add(Code.DAMAGED, large.path, error.message)
        except Refused as error:
            self.abandon(number)
            self._refuse(large.path, _Sent(why=str(error)))

    def abandon(self, number: int) -> None:
        """See `TargetWriter.abandon`."""
        self._begun.add(number)
        large = self._large.pop(number, None)
        if large and large.upload:
            self.sending.drain()  # a part that arrives after the end would stay for ever
            self._end(large.upload)

    def close(self) -> None:
        """Abort what is not complete; nothing may be under way any more."""
        for upload in list(self._uploads):
            with suppress(MoraineError, Refused):  # the next restore of these keys does it
                self._end(upload)

    def _send(self, number: int, large: Large, part: int) -> None:
        if part in large.sent or number not in self._large:
            return
        large.sent.add(part)
        body = large.take(part)
        if large.size < PART:
            del self._large[number]
            self.put(large.row, 0, body, lambda: self._done(large.stored))
            return
        if not large.upload:
            self._end_former(large.key)
            large.upload = self.service.begin(large.key, self.form.headers(large.row, 0, named=True))
            self._uploads[large.upload] = large.key
        send = partial(self.service.part, large.key, large.upload, part + 1, body)
        self.sending.send(len(body), partial(_attempt, send, None), partial(self._part_taken, number, part))

    def _part_taken(self, number: int, part: int, sent: _Sent) -> None:
        large = self._large.get(number)
        if large is None:
            return
        if not sent.etag:
            self.abandon(number)
            self._refuse(large.path, sent)
            return
        large.etags[part] = sent.etag
        if len(large.etags) < large.parts:
            return
        etags, only = [large.etags[n] for n in range(large.parts)], large.row.verdict[0] == Verdict.CREATE
        send = partial(self.service.complete, large.key, large.upload, etags, create=only)
        same = partial(self._same, large.key, large.size, "", large.row.digest[0])
        self.sending.send(0, partial(_attempt, send, same), partial(self._completed, number))

    def _completed(self, number: int, sent: _Sent) -> None:
        large = self._large.pop(number)
        if sent.fresh:
            del self._uploads[large.upload]
        else:
            self._end(large.upload)
        if sent.etag:
            self._done(large.stored)
        else:
            self._refuse(large.path, sent)

    def _done(self, stored: int) -> None:
        self.count += 1
        self.stored += stored

    def _refuse(self, path: bytes, sent: _Sent) -> None:
        if sent.there:
            self.notes.add(Code.CONFLICT, path, "another object has appeared there meanwhile: not restored")
        else:
            self.notes.add(Code.FAILED, path, f"cannot be written: {sent.why}")

    def _same(self, key: str, size: int, etag: str, digest: bytes | None) -> bool:
        """Whether the object that is there is the one to be written: put there by a twin, or by a lost answer."""
        try:
            found = self.bucket.look(key)
        except SourceVanished:
            return False
        marked = digest is not None and found.metadata.get(DIGEST) == digest.hex()
        return found.size == size and (found.etag == etag or marked)

    def _end(self, upload: str) -> None:
        self.service.abort(self._uploads[upload], upload)
        del self._uploads[upload]

    def _end_former(self, key: str) -> None:
        """Abort what an earlier restore has left at a key. They are listed once, before the first of our own."""
        if self._former is None:
            self._former = {}
            try:
                for found, upload in self.service.uploads(self.root):
                    self._former.setdefault(found, []).append(upload)
            except (AccessDenied, Refused) as error:
                self.notes.add(Code.UPLOADS, b"", f"uploads that were left here cannot be listed: {error}")
        for upload in self._former.pop(key, ()):
            self.service.abort(key, upload)


def _attempt(send: Callable[[], str], same: Callable[[], bool] | None) -> _Sent:
    """Send, in a thread; what concerns one object comes back as a result."""
    try:
        return _Sent(send(), fresh=True)
    except (AlreadyThere, UploadGone) as error:
        if same and same():
            return _Sent("there")
        return _Sent(why=str(error), there=isinstance(error, AlreadyThere))
    except Refused as error:
        return _Sent(why=str(error))


def _one(rows: Rows, i: int) -> Rows:
    """One of the rows."""
    return Rows(**{column.name: getattr(rows, column.name)[i : i + 1] for column in fields(Rows)})
