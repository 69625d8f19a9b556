"""Writing whole files into a target. Knows nothing of packs."""

from __future__ import annotations

import os
import threading
from functools import partial

from moraine.errors import DamagedObject
from moraine.model.entry import join_path
from moraine.model.record import dataclass
from moraine.sources.extents import Extents
from moraine.sources.posix_target_attributes import PRIVATE, Attributes
from moraine.sources.posix_target_placing import Placing, refuse
from moraine.sources.posix_target_tree import Place
from moraine.sources.target import Code, Rows

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class Files:
    """Writes regular files whose content is at hand; one per restore."""

    attributes: Attributes
    placing: Placing
    turn: threading.Lock
    count: int = 0
    stored: int = 0

    def whole(self, rows: Rows, data: memoryview, at: list[int], size: list[int]) -> None:
        """See `TargetWriter.files`."""
        last: bytes | None = None
        place: Place | None = None
        with self.turn:
            for i, directory in enumerate(rows.dir):
                if directory is not last or place is None:
                    place, last = self.placing.place(directory, rows.name[i]), directory
                if place is not None and self._write(place, rows, i, data[at[i] : at[i] + size[i]]):
                    self.count += 1
                    self.stored += size[i]

    def _write(self, place: Place, rows: Rows, i: int, data: memoryview) -> bool:
        name, verdict = rows.name[i], rows.verdict[i]
        path = join_path(rows.dir[i], name)
        made = self.placing.make(place, name, verdict, path, partial(create, place.fd))
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


def write_all(fd: int, data: memoryview, offset: int) -> None:
    """Write all of `data` at `offset`."""
    while data:
        count = os.pwrite(fd, data, offset)
        offset += count
        data = data[count:]


def create(parent: int, name: bytes) -> int:
    """Make a file that nobody else may look into yet; its descriptor."""
    return os.open(name, _NEW, PRIVATE, dir_fd=parent)
