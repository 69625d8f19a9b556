"""Copies one file from a source into a mirror, hashing it on the way, and says how far the result can be trusted."""

from __future__ import annotations

import struct
from collections.abc import Callable

from blake3 import blake3

from moraine.model.entry import Kind, State
from moraine.proof.rehash import content_digest, stored_spans
from moraine.sources.base import OpenFile, Reader, Stamp
from moraine.sources.mirror import MirrorWriter, Staged
from moraine.sources.target import Content as Standing
from moraine.sources.target import Rows
from moraine.steps.copy_files import ATTEMPTS, Content

_BLOCK = 4 << 20
_MANY = 1 << 20  # bytes from which hashing on several threads pays


class FileCopier:
    """Copies files of one source into one mirror. For one thread."""

    def __init__(
        self,
        reader: Reader,
        writer: MirrorWriter,
        *,
        id_key: bytes,
        racy_from: Callable[[], int],
        advance: Callable[[int], None],
        alone: bool,
    ) -> None:
        """Prepare.

        Args:
            reader: of the source.
            writer: of the mirror.
            id_key: of the digests.
            racy_from: the time, in ns, from which a change may be followed by another in the same tick.
            advance: told of bytes of large files.
            alone: no other process does the same; those share the cores, and hashing threads are lost in a fork.
        """
        self._reader = reader
        self._writer = writer
        self._key = id_key
        self._racy_from = racy_from
        self._advance = advance
        self._threads = blake3.AUTO if alone else 1
        self._buffer = memoryview(bytearray(_BLOCK))
        self.written = 0  # bytes

    def copy(self, rows: Rows, i: int, listed: Stamp) -> Content:
        """Bring one file to the mirror; it appears at the next flush.

        One that stands there already, with the same bytes, only gets its attributes: so a run that was killed does
        not write again what it had written, and nothing goes to the trash for a change of mode.

        Raises:
            SourceVanished, SourceDenied, SourceError: the source.
            OSError: the mirror.
        """
        standing = self._writer.stands(rows, i)
        if standing is not None:
            found = self._compared(standing, rows, i, listed)
            if found is not None:
                return found
        for attempt in range(1, ATTEMPTS + 1):
            found = self._once(rows, i, listed, last=attempt == ATTEMPTS)
            if found is not None:
                return found
        raise AssertionError("the last attempt always counts")

    def digest(self, rows: Rows, i: int, listed: Stamp) -> Content:
        """Read one file and bring nothing anywhere."""
        return self._read(rows, i, listed, None)[0]

    def _compared(self, standing: Standing, rows: Rows, i: int, listed: Stamp) -> Content | None:
        try:
            content, still = self._read(rows, i, listed, None)
            spans = stored_spans(content.size, content.extents)
            cuts = [sum(length for _, length in spans)] if spans else []
            same = content_digest(standing.read_at, spans, cuts, id_key=self._key) == content.digest
        finally:
            standing.close()
        if not same or not still:
            return None
        _take(rows, i, content)
        self._writer.refresh(rows, i)
        return content

    def _once(self, rows: Rows, i: int, listed: Stamp, *, last: bool) -> Content | None:
        staged = self._writer.file(rows, i)
        try:
            content, still = self._read(rows, i, listed, staged)
            if not still and not last:
                staged.discard()
                return None
            _take(rows, i, content)
            staged.complete(rows, i, i, content.digest)
        except BaseException:
            staged.discard()
            raise
        self.written += content.size if content.extents is None else _stored(content.extents)
        return content

    def _read(self, rows: Rows, i: int, listed: Stamp, staged: Staged | None) -> tuple[Content, bool]:
        """What was read, and whether the file held still."""
        directory, name = rows.dir[i], rows.name[i]
        racy_from = self._racy_from()
        file = self._reader.open(directory, name)
        try:
            stamp, extents = file.stamp, file.extents()
            digest, got = self._pass(file, stamp.size, extents, staged)
            # While the file is open, a source may read its attributes through it: cheaper than by name.
            attributes = self._reader.attributes(directory, name, Kind.FILE, rows.uid[i], rows.gid[i])
            wanted = stamp.size if extents is None else sum(length for _, length in extents)
            still = file.finish() == stamp and got == wanted
        except BaseException:
            file.close()
            raise
        racy = not still or stamp != listed or stamp.mtime_ns >= racy_from or stamp.ctime_ns >= racy_from
        packed = (
            None if extents is None else struct.pack(f"<{2 * len(extents)}q", *(n for pair in extents for n in pair))
        )
        size = got if extents is None else stamp.size
        state = State.RACY if racy else State.OK
        return Content(digest, None, packed, size, state, stamp, attributes), still

    def _pass(
        self, file: OpenFile, size: int, extents: list[tuple[int, int]] | None, staged: Staged | None
    ) -> tuple[bytes, int]:
        hasher = blake3(key=self._key, max_threads=self._threads if size >= _MANY else 1)
        total = 0
        for start, length in [(0, size)] if extents is None else extents:
            done = 0
            while done < length:
                count = file.readinto(self._buffer[: min(_BLOCK, length - done)])
                if not count:
                    return hasher.digest(), total
                piece = self._buffer[:count]
                hasher.update(piece)
                if staged is not None:
                    staged.write(start + done, piece)
                done += count
                total += count
                if count >= _MANY:
                    self._advance(count)
        return hasher.digest(), total


def _take(rows: Rows, i: int, found: Content) -> None:
    """What was found is what the mirror gets, whatever the listing said."""
    rows.size[i], rows.time[i] = found.size, found.stamp.mtime_ns
    for column, value in (("xattrs", found.attributes.xattrs), ("extents", found.extents)):
        values = getattr(rows, column)
        values[i] = value


def _stored(extents: bytes) -> int:
    return sum(length for _, length in struct.iter_unpack("<qq", extents))
