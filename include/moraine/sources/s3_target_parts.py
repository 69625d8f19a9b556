"""A file on its way into a bucket in parts: pieces come in, in any order, and full parts go out. Sends nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field

from moraine.errors import DamagedObject
from moraine.model.record import dataclass
from moraine.sources.extents import Extents
from moraine.sources.target import Rows


@dataclass(slots=True)
class Large:
    """A file that comes in pieces, put together part by part."""

    row: Rows
    key: str
    path: bytes
    left: int  # pieces
    part: int  # bytes in one
    extents: Extents | None
    stored: int = 0
    upload: str = ""
    sent: set[int] = field(default_factory=set)
    etags: dict[int, str] = field(default_factory=dict)
    _pieces: dict[int, list[tuple[int, bytes]]] = field(default_factory=dict)  # of parts that are not full
    _got: dict[int, int] = field(default_factory=dict)  # bytes of data in those

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self.row.size[0]

    @property
    def parts(self) -> int:
        """How many there are."""
        return max(1, -(-self.size // self.part))

    def add(self, start: int, data: memoryview) -> Iterator[int]:
        """Take bytes of the file; the numbers of parts that are full with them. Raises DamagedObject."""
        if start + len(data) > self.size:
            raise self._damage()
        while data:
            number, at = divmod(start, self.part)
            piece = bytes(data[: self.part - at])
            self._pieces.setdefault(number, []).append((at, piece))
            self._got[number] = self._got.get(number, 0) + len(piece)
            if self._got[number] == self._wanted(number):
                yield number
            start, data = start + len(piece), data[len(piece) :]

    def rest(self) -> Iterator[int]:
        """Parts that are nothing but holes, when all pieces have come. Raises DamagedObject when data are missing."""
        for number in range(self.parts):
            if number not in self.sent:
                if self._got.get(number, 0) != self._wanted(number):
                    raise self._damage()
                yield number

    def take(self, number: int) -> bytes | bytearray:
        """The content of a part, holes filled with zeros; it is forgotten."""
        found = self._pieces.pop(number, [])
        self._got.pop(number, None)
        if len(found) == 1 and len(found[0][1]) == self._length(number):
            return found[0][1]
        body = bytearray(self._length(number))
        for at, piece in found:
            body[at : at + len(piece)] = piece
        return body

    def _length(self, number: int) -> int:
        return min(self.part, self.size - number * self.part)

    def _wanted(self, number: int) -> int:
        start, length = number * self.part, self._length(number)
        return length if self.extents is None else self.extents.within(start, start + length)

    def _damage(self) -> DamagedObject:
        return DamagedObject("its chunks do not make a file of its size", hint="run `moraine check`", path=self.path)
