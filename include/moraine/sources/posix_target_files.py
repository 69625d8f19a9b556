"""Writing regular files into a target: whole ones in one go, large ones piece by piece. Knows nothing of packs."""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import field
from functools import partial

from moraine.errors import DamagedObject
from moraine.model.entry import join_path
from moraine.model.record import dataclass
from moraine.sources.extents import Extents
from moraine.sources.posix_target_attributes import PRIVATE, Attributes
from moraine.sources.posix_target_placing import Placing, refuse
from moraine.sources.posix_target_tree import Place, Tree
from moraine.sources.target import Code, Rows

OPEN_FILES = 64  # large files written in turns
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_AGAIN = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class _Large:
    """A file that comes in pieces."""

    place: bytes
    first: bytes  # the name it has until it is complete
    row: Rows
    left: int
    extents: Extents | None


@dataclass(slots=True)
class Files:
    """Writes regular files; one per restore."""

    tree: Tree
    attributes: Attributes
    placing: Placing
    count: int = 0
    stored: int = 0
    _large: dict[int, _Large] = field(default_factory=dict)
    _begun: set[int] = field(default_factory=set)
    _fds: OrderedDict[int, int] = field(default_factory=OrderedDict)

    def whole(self, rows: Rows, data: memoryview, at: list[int], size: list[int]) -> None:
        """See `TargetWriter.files`."""
        last: bytes | None = None
        place: Place | None = None
        for i, directory in enumerate(rows.dir):
            if directory is not last or place is None:
                place, last = self.placing.place(directory, rows.name[i]), directory
            if place is not None and self._write(place, rows, i, data[at[i] : at[i] + size[i]]):
                self.count += 1
                self.stored += size[i]

    def begin(self, number: int, row: Rows, pieces: int) -> None:
        """See `TargetWriter.begin`."""
        self._begun.add(number)
        directory, name, stored = row.dir[0], row.name[0], row.extents[0]
        path = join_path(directory, name)
        place = self.placing.place(directory, name)
        try:
            extents = None if stored is None else Extents(stored, row.size[0], path)
        except DamagedObject as error:
            self.placing.notes.add(Code.DAMAGED, path, error.message)
            return
        made = place and self.placing.make(place, name, row.verdict[0], path, partial(_create, place.fd))
        if not made:
            return
        self._keep(number, made[0])
        self._large[number] = _Large(directory, made[1], row, pieces, extents)
        if extents is not None:
            try:
                os.ftruncate(made[0], row.size[0])
            except OSError as error:
                self._fail(number, error, path)

    def begun(self, number: int) -> bool:
        """See `TargetWriter.begun`."""
        return number in self._begun

    def write(self, number: int, offset: int, data: memoryview) -> None:
        """See `TargetWriter.write`."""
        large = self._large.get(number)
        if large is None:
            return
        path = join_path(large.place, large.row.name[0])
        try:
            fd = self._fd(number, large)
            for where, piece in large.extents.pieces(offset, data) if large.extents else [(offset, data)]:
                write_all(fd, piece, where)
            self.stored += len(data)
            large.left -= 1
            if not large.left:
                self._complete(number, large, path)
        except OSError as error:
            self._fail(number, error, path)
        except DamagedObject as error:
            self.abandon(number)
            self.placing.notes.add(Code.DAMAGED, path, error.message)

    def abandon(self, number: int) -> None:
        """See `TargetWriter.abandon`."""
        self._begun.add(number)
        fd = self._fds.pop(number, None)
        if fd is not None:
            os.close(fd)
        large = self._large.pop(number, None)
        place = large and self.placing.place(large.place, large.row.name[0])
        if large and place:
            self.placing.discard(place, large.first)

    def close(self) -> None:
        """Remove what is not complete."""
        for number in list(self._large):
            self.abandon(number)

    def _write(self, place: Place, rows: Rows, i: int, data: memoryview) -> bool:
        name, verdict = rows.name[i], rows.verdict[i]
        path = join_path(rows.dir[i], name)
        made = self.placing.make(place, name, verdict, path, partial(_create, place.fd))
        if made is None:
            return False
        fd, first = made
        try:
            try:
                self._fill(fd, rows.extents[i], rows.size[i], data, path)
                self.attributes.complete(fd, path, rows, i, place)
            finally:
                os.close(fd)
            return self.placing.settle(place, first, name, verdict, path)
        except OSError as error:
            self.placing.discard(place, first)
            refuse(self.placing.notes, error, path)
        except DamagedObject as error:
            self.placing.discard(place, first)
            self.placing.notes.add(Code.DAMAGED, path, error.message)
        return False

    def _fill(self, fd: int, stored: bytes | None, size: int, data: memoryview, path: bytes) -> None:
        if stored is None:
            if data and os.write(fd, data) != len(data):  # short: the disk is full, or was
                write_all(fd, data, 0)
            return
        extents = Extents(stored, size, path)
        os.ftruncate(fd, size)
        for where, piece in extents.pieces(0, data):
            write_all(fd, piece, where)

    def _complete(self, number: int, large: _Large, path: bytes) -> None:
        place = self.tree.place(large.place)
        name, verdict = large.row.name[0], large.row.verdict[0]
        self.attributes.complete(self._fds[number], path, large.row, 0, place)
        os.close(self._fds.pop(number))
        if self.placing.settle(place, large.first, name, verdict, path):
            self.count += 1
        del self._large[number]

    def _fail(self, number: int, error: OSError, path: bytes) -> None:
        self.abandon(number)
        refuse(self.placing.notes, error, path)

    def _fd(self, number: int, large: _Large) -> int:
        found = self._fds.get(number)
        if found is not None:
            self._fds.move_to_end(number)
            return found
        return self._keep(number, os.open(large.first, _AGAIN, dir_fd=self.tree.place(large.place).fd))

    def _keep(self, number: int, fd: int) -> int:
        self._fds[number] = fd
        if len(self._fds) > OPEN_FILES:
            os.close(self._fds.popitem(last=False)[1])
        return fd


def write_all(fd: int, data: memoryview, offset: int) -> None:
    """Write all of `data` at `offset`."""
    while data:
        count = os.pwrite(fd, data, offset)
        offset += count
        data = data[count:]


def _create(parent: int, name: bytes) -> int:
    return os.open(name, _NEW, PRIVATE, dir_fd=parent)
