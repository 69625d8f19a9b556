"""Writing large files into a target, piece by piece, in any order and by several threads. Knows nothing of packs.

Pieces are written at the same time; what the threads share (directories, attributes, notes, open files) they use in
turn. A file stays open while a piece of it is under way: its descriptor would be another file's by then.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import field
from functools import partial

from moraine.errors import DamagedObject
from moraine.model.entry import join_path
from moraine.model.record import dataclass
from moraine.sources.extents import Extents
from moraine.sources.posix_target_attributes import Attributes
from moraine.sources.posix_target_files import create, write_all
from moraine.sources.posix_target_placing import Placing, refuse
from moraine.sources.posix_target_tree import Tree
from moraine.sources.target import Code, Rows

OPEN_FILES = 64  # large files written in turns
_AGAIN = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_CLOSED = -1


@dataclass(slots=True)
class _Large:
    """A file that comes in pieces."""

    place: bytes
    first: bytes  # the name it has until it is complete
    row: Rows
    left: int
    extents: Extents | None
    fd: int
    users: int = 0  # threads that are writing a piece
    given_up: bool = False

    @property
    def path(self) -> bytes:
        """Where it belongs."""
        return join_path(self.place, self.row.name[0])


@dataclass(slots=True)
class LargeFiles:
    """Writes regular files that come in pieces; one per restore."""

    tree: Tree
    attributes: Attributes
    placing: Placing
    turn: threading.Lock
    count: int = 0
    stored: int = 0
    _large: dict[int, _Large] = field(default_factory=dict)
    _begun: set[int] = field(default_factory=set)
    _open: OrderedDict[int, _Large] = field(default_factory=OrderedDict)  # those with a descriptor, by last use

    def begin(self, number: int, row: Rows, pieces: int) -> None:
        """See `TargetWriter.begin`."""
        with self.turn:
            if number in self._begun:  # or abandoned before it was begun: another thread has met a loss
                return
            self._begun.add(number)
            directory, name, stored = row.dir[0], row.name[0], row.extents[0]
            path = join_path(directory, name)
            place = self.placing.place(directory, name)
            try:
                extents = None if stored is None else Extents(stored, row.size[0], path)
            except DamagedObject as error:
                self.placing.notes.add(Code.DAMAGED, path, error.message)
                return
            made = place and self.placing.make(place, name, row.verdict[0], path, partial(create, place.fd))
            if not made:
                return
            large = self._large[number] = _Large(directory, made[1], row, pieces, extents, made[0])
            try:
                self._keep(number, large)
                if extents is not None:
                    os.ftruncate(large.fd, row.size[0])
            except OSError as error:
                self._fail(number, large, error)

    def begun(self, number: int) -> bool:
        """See `TargetWriter.begun`."""
        return number in self._begun

    def write(self, number: int, offset: int, data: memoryview) -> None:
        """See `TargetWriter.write`."""
        with self.turn:  # whoever begins it may still be at it
            large = self._large.get(number)
            if large is None:
                return
            large.users += 1
        problem: OSError | DamagedObject | None = None
        try:
            fd = self._descriptor(number, large)
            for where, piece in large.extents.pieces(offset, data) if large.extents else [(offset, data)]:
                write_all(fd, piece, where)
        except (OSError, DamagedObject) as error:
            problem = error
        except BaseException:
            self._let_go(number, large)
            raise
        with self.turn:
            large.users -= 1
            if large.given_up:
                self._close(number, large)
            elif problem:
                self._fail(number, large, problem)
            else:
                self._wrote(number, large, len(data))

    def abandon(self, number: int) -> None:
        """See `TargetWriter.abandon`."""
        with self.turn:
            self._abandon(number)

    def close(self) -> None:
        """Remove what is not complete."""
        for number in list(self._large):
            self.abandon(number)

    def _descriptor(self, number: int, large: _Large) -> int:
        """Its descriptor, which stays until `users` has been lowered again."""
        with self.turn:
            if large.fd == _CLOSED:
                large.fd = os.open(large.first, _AGAIN, dir_fd=self.tree.place(large.place).fd)
            self._keep(number, large)
            return large.fd

    def _let_go(self, number: int, large: _Large) -> None:
        with self.turn:
            large.users -= 1
            if large.given_up:
                self._close(number, large)

    def _keep(self, number: int, large: _Large) -> None:
        """It is used now; of too many open files the one that has not been for the longest time is closed."""
        self._open[number] = large
        self._open.move_to_end(number)
        if len(self._open) > OPEN_FILES:
            idle = next((number for number, other in self._open.items() if not other.users), None)
            if idle is not None and idle != number:
                self._close(idle, self._open[idle])

    def _close(self, number: int, large: _Large) -> None:
        """Close it, unless somebody is writing to it, who will. Its number is free also where closing fails."""
        if large.fd != _CLOSED and not large.users:
            fd, large.fd = large.fd, _CLOSED
            self._open.pop(number, None)
            try:
                os.close(fd)
            except OSError:
                if not large.given_up:  # of what is removed nobody needs to know
                    raise

    def _wrote(self, number: int, large: _Large, size: int) -> None:
        self.stored += size
        large.left -= 1
        if large.left:
            return
        path, name = large.path, large.row.name[0]
        try:
            place = self.tree.place(large.place)
            self.attributes.complete(large.fd, path, large.row, 0, place)
            self._close(number, large)
            if self.placing.settle(place, large.first, name, large.row.verdict[0], path):
                self.count += 1
            del self._large[number]
        except OSError as error:
            self._fail(number, large, error)

    def _fail(self, number: int, large: _Large, problem: OSError | DamagedObject) -> None:
        self._abandon(number)
        if isinstance(problem, OSError):
            refuse(self.placing.notes, problem, large.path)
        else:
            self.placing.notes.add(Code.DAMAGED, large.path, problem.message)

    def _abandon(self, number: int) -> None:
        self._begun.add(number)
        large = self._large.pop(number, None)
        if large is None:
            return
        large.given_up = True
        self._close(number, large)
        place = self.placing.place(large.place, large.row.name[0])
        if place:
            self.placing.discard(place, large.first)
