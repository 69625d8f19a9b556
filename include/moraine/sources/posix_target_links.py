"""Making hard links in a target, or copies where the file system has none. Knows descriptors, nothing of plans."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack

from moraine.model.entry import join_path
from moraine.model.record import dataclass
from moraine.sources.extents import find_extents
from moraine.sources.posix_target_attributes import PRIVATE, Attributes
from moraine.sources.posix_target_files import write_all
from moraine.sources.posix_target_placing import Placing, reason, refuse
from moraine.sources.posix_target_tree import Place
from moraine.sources.target import Code, Rows

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_COPY_SIZE = 4 << 20


@dataclass(slots=True)
class Links:
    """Makes hard links; one per restore."""

    attributes: Attributes
    placing: Placing
    count: int = 0

    def make(self, rows: Rows, leaders: list[tuple[bytes, bytes]]) -> None:
        """See `TargetWriter.links`. The first name that cannot be a link becomes a copy, and leads from there."""
        asked: tuple[bytes, bytes] | None = None
        leader = (b"", b"")
        for i, name in enumerate(rows.name):
            if leaders[i] != asked:
                asked = leader = leaders[i]
            path = join_path(rows.dir[i], name)
            source = self.placing.place(*leader)
            if source is None:
                continue
            held = os.dup(source.fd)  # the way to a deep directory may close it
            try:
                place = self.placing.place(rows.dir[i], name)
                if place is not None and self._one(held, leader[1], place, rows, i, path):
                    leader = (rows.dir[i], name)
            finally:
                os.close(held)

    def _one(self, source: int, leader: bytes, place: Place, rows: Rows, i: int, path: bytes) -> bool:
        """Make one link; True when it became a copy."""
        name, verdict = rows.name[i], rows.verdict[i]
        if same_file(source, leader, place.fd, name):
            return False
        made = self.placing.make(place, name, verdict, path, self._linker(source, leader, place.fd, path))
        if made is None:
            return False
        copied, first = made
        try:
            if copied:
                self._copy(source, leader, place, first, path, rows, i)
            if self.placing.settle(place, first, name, verdict, path):
                self.count += 1
                return bool(copied)
        except OSError as error:
            self.placing.discard(place, first)
            refuse(self.placing.notes, error, path)
        return False

    def _linker(self, source: int, leader: bytes, parent: int, path: bytes) -> Callable[[bytes], int]:
        """Makes the link and answers 0, or an empty file to copy into and answers 1."""

        def make(name: bytes) -> int:
            try:
                os.link(leader, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
                return 0
            except (FileExistsError, FileNotFoundError):
                raise
            except OSError as error:  # too many links, another file system, or one without links
                os.close(os.open(name, _NEW, PRIVATE, dir_fd=parent))
                self.placing.notes.add(Code.COPIED, path, f"a copy, not a hard link: {reason(error)}")
                return 1

        return make

    def _copy(self, source: int, leader: bytes, place: Place, name: bytes, path: bytes, rows: Rows, i: int) -> None:
        with ExitStack() as stack:
            old = os.open(leader, _READ, dir_fd=source)
            stack.callback(os.close, old)
            new = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place.fd)
            stack.callback(os.close, new)
            size = os.fstat(old).st_size
            os.ftruncate(new, size)
            buffer = memoryview(bytearray(_COPY_SIZE))
            extents = find_extents(old, size)
            for start, length in [(0, size)] if extents is None else extents:
                at = start
                while count := os.preadv(old, [buffer[: start + length - at]], at):
                    write_all(new, buffer[:count], at)
                    at += count
            self.attributes.complete(new, path, rows, i, place)


def same_file(source: int, leader: bytes, parent: int, name: bytes) -> bool:
    """Whether two names, each in an open directory, are of one file."""
    try:
        first = os.stat(leader, dir_fd=source, follow_symlinks=False)
        second = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except OSError:
        return False
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)
