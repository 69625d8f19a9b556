"""The order in which chunks are read: by pack and offset, neighbouring frames in one request."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from moraine.model.record import dataclass

Numbers = npt.NDArray[np.int64]

LARGEST_GAP = 128 << 10  # unwanted bytes that are cheaper to read than to ask twice


@dataclass(frozen=True, slots=True)
class Wanted:
    """LOCATION rows in reading order; `rows` are their numbers in the table they came from."""

    rows: Numbers
    ids: bytes  # 32 per row, in the order of the table
    packs: list[str]
    keys: list[bytes]  # wrapped, one per pack
    pack: Numbers  # number of the pack
    offset: Numbers
    length: Numbers
    at: Numbers
    size: Numbers

    @classmethod
    def of(cls, locations: pa.Table) -> Wanted:
        """The rows of a table, sorted."""
        table = locations.select(["id", "pack", "key", "offset", "length", "at", "size"]).unify_dictionaries()
        table = table.combine_chunks()
        packs, keys, pack = _by_name(table)
        numbers = {name: table[name].to_numpy().astype(np.int64) for name in ("offset", "length", "at", "size")}
        order = np.lexsort((numbers["at"], numbers["offset"], pack))
        ordered = {name: values[order] for name, values in numbers.items()}
        return cls(rows=order, ids=_raw_ids(table), packs=packs, keys=keys, pack=pack[order], **ordered)

    def id_of(self, row: int) -> bytes:
        """The id of a row of the table."""
        return self.ids[32 * row : 32 * row + 32]


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame to open, and the range of ordered rows in it."""

    offset: int
    length: int
    first: int
    last: int  # exclusive


@dataclass(slots=True)
class Request:
    """Frames of one pack fetched together."""

    pack: int
    frames: list[Frame]
    plain: int  # the least they open to

    @property
    def start(self) -> int:
        """Where the range begins in the pack."""
        return self.frames[0].offset

    @property
    def length(self) -> int:
        """Bytes of the range."""
        return self.frames[-1].offset + self.frames[-1].length - self.start

    @property
    def cost(self) -> int:
        """Memory it takes while it is under way."""
        return self.length + max(self.plain, self.length)

    def takes(self, pack: int, frame: Frame, plain: int, most: int) -> bool:
        """Whether a following frame may join."""
        end = self.start + self.length
        length = frame.offset + frame.length - self.start
        return (
            pack == self.pack
            and end <= frame.offset <= end + LARGEST_GAP
            and length + max(self.plain + plain, length) <= most
        )


def requests(wanted: Wanted, most: int) -> Iterator[Request]:
    """The range requests that fetch all wanted rows, each frame once; none costs over `most`, unless one frame does."""
    count = len(wanted.rows)
    if not count:
        return
    fresh = np.ones(count, dtype=bool)
    fresh[1:] = (np.diff(wanted.pack) != 0) | (np.diff(wanted.offset) != 0)
    firsts = np.flatnonzero(fresh)
    lasts = np.append(firsts[1:], count)
    plains = np.maximum.reduceat(wanted.at + wanted.size, firsts)
    current: Request | None = None
    for first, last, plain in zip(firsts.tolist(), lasts.tolist(), plains.tolist(), strict=True):
        pack = int(wanted.pack[first])
        frame = Frame(int(wanted.offset[first]), int(wanted.length[first]), first, last)
        if current and current.takes(pack, frame, plain, most):
            current.frames.append(frame)
            current.plain += plain
            continue
        if current:
            yield current
        current = Request(pack, [frame], plain)
    if current:
        yield current


def _by_name(table: pa.Table) -> tuple[list[str], list[bytes], Numbers]:
    """Packs in order of their names, their wrapped keys, and every row's pack as a number in that order."""
    if not table.num_rows:
        return [], [], np.empty(0, np.int64)
    column, keys = table["pack"].chunk(0), table["key"].chunk(0)
    code = column.indices.to_numpy().astype(np.int64)
    used, first, dense = np.unique(code, return_index=True, return_inverse=True)
    names = [column.dictionary[int(number)].as_py() for number in used]
    order = np.argsort(np.array(names, dtype=object), kind="stable")
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names))
    wrapped = [keys[int(first[number])].as_py() for number in order]
    return [names[number] for number in order], wrapped, rank[dense]


def _raw_ids(table: pa.Table) -> bytes:
    if not table.num_rows:
        return b""
    ids = table["id"].chunk(0)
    return bytes(ids.buffers()[1][32 * ids.offset : 32 * (ids.offset + len(ids))])
