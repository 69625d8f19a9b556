"""How far a large file was read: parts of it that are done, so that a killed copy of one huge file goes on inside it.

A part is a run of chunks that ends at the first cut at or behind a multiple of `PART_BYTES` of stored content. Cuts are
a function of the bytes, so all attempts at one file make the same parts. Once its chunks are durable, a part is put
under (session, file, index) with a checksum of all chunks up to its end, and never replaced. A second put of an index
is accepted if its checksum is the same, and refused if not. "File" means path, stamp, extents and part size: a file
that was changed is another one, and begins anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from blake3 import blake3

from moraine.engine.known import KnownIds
from moraine.errors import ObjectExists
from moraine.model.entry import join_path
from moraine.repository.work import WorkFiles
from moraine.sources.base import Stamp
from moraine.steps.copy_chunks import Membership
from moraine.steps.run import Run

PART_BYTES = 512 << 20

_ALWAYS = -1 << 63  # before the time of every file

Extents = list[tuple[int, int]]


class FileParts:
    """The parts of one file, as one attempt finds and goes on with them."""

    def __init__(self, files: WorkFiles, name: str, id_key: bytes, racy_from: int, save: Callable[[], object]) -> None:
        """Begin at the file's start; `name` says which file, `save` makes durable all chunks stored so far."""
        self._files = files
        self._folder = f"parts/{name}/"
        self._key = id_key
        self._save = save
        self._parts = 0
        self._kept = 0  # ids that the parts hold
        self._checksum = b""  # of those, in order
        self._boundary: float = PART_BYTES
        self.racy_from = racy_from  # of the attempt that read the first part
        self.end = 0  # stored bytes that are done
        self.ids: list[bytes] = []  # of their chunks

    def resume(self, held: Callable[[list[bytes]], bool]) -> None:
        """Take over what earlier attempts have put, as far as its chunks are still `held`."""
        for name in self._files.list(self._folder):
            part = self._files.read_json(name)
            ids = [bytes.fromhex(chunk) for chunk in part["ids"]]
            checksum = self._continued(ids)
            if name != self._name() or checksum.hex() != part["checksum"] or not held(ids):
                return
            self.ids += ids
            self.racy_from = min(self.racy_from, part["racy_from"])
            self._passed(part["end"], checksum)

    def add(self, ids: Sequence[bytes], ends: Sequence[int]) -> None:
        """Take chunks that follow, stored but perhaps on the way, and where in the file each ends."""
        start = 0
        for number, end in enumerate(ends, 1):
            if end >= self._boundary:
                self.ids += ids[start:number]
                start = number
                self._put(end)
        self.ids += ids[start:]

    def _put(self, end: int) -> None:
        self._save()
        ids = self.ids[self._kept :]
        checksum = self._continued(ids)
        listed = [chunk.hex() for chunk in ids]
        part = {"end": end, "ids": listed, "checksum": checksum.hex(), "racy_from": self.racy_from}
        try:
            self._files.save_json(self._name(), part)
        except ObjectExists:
            if self._files.read_json(self._name())["checksum"] != part["checksum"]:
                self._refuse()
                return
        self._passed(end, checksum)

    def _refuse(self) -> None:
        """Two attempts have read different bytes of a file that looked the same to both: nothing says which are true.

        What is there stays. This attempt goes on to the end without parts, and its file counts as racy.
        """
        self.racy_from = _ALWAYS
        self.stop()

    def stop(self) -> None:
        """Make no more parts."""
        self._boundary = math.inf

    def _passed(self, end: int, checksum: bytes) -> None:
        self.end = end
        self._checksum = checksum
        self._kept = len(self.ids)
        self._parts += 1
        self._boundary = (end // PART_BYTES + 1) * PART_BYTES

    def _name(self) -> str:
        return f"{self._folder}{self._parts:06d}"

    def _continued(self, ids: list[bytes]) -> bytes:
        return blake3(self._checksum + b"".join(ids), key=self._key).digest()


class PartsOfRun:
    """Finds the parts of the files of one attempt at a shard.

    They are in the repository's store, wherever other working files are: a command line that was killed has lost those.
    """

    def __init__(self, run: Run, index: Membership, known: KnownIds, save: Callable[[], object], *, anew: bool) -> None:
        """`save` makes durable all chunks stored so far; with `anew` every file is read from its beginning."""
        self._files = WorkFiles(run.repository.store, run.repository.keyring, run.session.id, run.entropy)
        self._key = run.repository.keyring.id_key
        self._index = index
        self._known = known
        self._save = save
        self._anew = anew

    def of(self, directory: bytes, name: bytes, stamp: Stamp, extents: Extents | None, racy_from: int) -> FileParts:
        """The parts of a file that is open; what earlier attempts have done is taken over."""
        file = repr((join_path(directory, name), PART_BYTES, stamp, extents)).encode()
        known_as = blake3(file, key=self._key).hexdigest()[:32]
        parts = FileParts(self._files, known_as, self._key, racy_from, self._save)
        if self._anew:
            parts.stop()
        elif stamp.size >= PART_BYTES:
            parts.resume(self._held)
        return parts

    def _held(self, ids: list[bytes]) -> bool:
        known = self._known.contains(ids)
        rest = [chunk for chunk, held in zip(ids, known, strict=True) if not held]
        return all(self._index.contains(rest))
