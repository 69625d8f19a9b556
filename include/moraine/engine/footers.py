"""What the footer of a Parquet or ORC file tells: how many rows, which columns, or why it cannot be read.

Both formats say all of this in their last bytes, so it is known from a file that goes by once, front to back, without
reading it again. Pure: bytes in, facts out. It must not know where files come from.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pyarrow as pa

import moraine.model.arrow  # noqa: F401  (first: it keeps pandas out)
from moraine.model.record import dataclass

TAIL = 4 << 20  # last bytes that are kept of a file; a longer footer is not looked at
SUFFIXES = {".parquet": "parquet", ".pq": "parquet", ".orc": "orc"}
_MAGIC = {"parquet": b"PAR1", "orc": b"ORC"}
_ENCRYPTED = b"PARE"


class TableFacts(NamedTuple):
    """The columns `table_rows` and `table_shape` of a manifest row."""

    rows: int | None  # None: not known, the shape says why
    shape: str  # canonical JSON, see `Shape`


@dataclass(frozen=True, slots=True)
class Shape:
    """The readable form of `table_shape`."""

    format: str  # parquet or orc
    columns: tuple[tuple[str, str], ...] = ()  # names, and types as Arrow calls them
    problem: str | None = None  # the footer cannot be read: why
    unread: str | None = None  # nobody looked: why

    def to_text(self) -> str:
        """The stored form."""
        known = {"format": self.format, "columns": self.columns, "problem": self.problem, "unread": self.unread}
        return json.dumps({k: v for k, v in known.items() if v}, sort_keys=True, separators=(",", ":"))

    @classmethod
    def of_text(cls, text: str) -> Shape:
        """The shape of a stored form."""
        data = json.loads(text)
        data["columns"] = tuple((str(name), str(kind)) for name, kind in data.get("columns", ()))
        return cls(**data)


class Footer:
    """Watches one file of `size` bytes go by; ask `facts` at its end.

    Nothing but what may be its footer is copied: most of a file of a table goes by untouched.
    """

    def __init__(self, name: bytes, size: int) -> None:
        dot = name.rfind(b".")
        self._named = SUFFIXES.get(name[dot:].decode("latin-1").lower()) if dot >= 0 else None
        self._format: str | None = None
        self._size = size
        self._passed = 0
        self._skipped = False
        self._head = self._tail = b""

    def take(self, view: memoryview) -> None:
        """The next bytes of the file; the first four together."""
        if not self._passed:
            self._head = bytes(view[:4])
            self._format = self._named or _format_of(self._head)
        self._passed += len(view)
        left = self._size - self._passed
        if self._format is None or left >= TAIL:
            return
        whole = _parquet_footer(view) if self._format == "parquet" and not left else 0
        self._tail = bytes(view[-whole:]) if whole else self._tail + bytes(view[left - TAIL :])

    def skip(self, count: int) -> None:
        """Bytes that do not go by."""
        self._passed += count
        self._skipped = True
        self._tail = b""

    def facts(self) -> TableFacts | None:
        """What the footer says; None when this is no file of a table.

        A file that is called a table's is one, and a footer that does not open is said. One that only begins like one
        counts when its footer opens: it may as well be half written, or something else.
        """
        form = self._format or self._named
        if form is None:
            return None
        if self._passed != self._size:
            return (
                TableFacts(None, Shape(form, unread="it was cut short while it was read").to_text())
                if self._named
                else None
            )
        if self._skipped and len(self._tail) < TAIL and not (form == "parquet" and _parquet_footer(self._tail)):
            return TableFacts(None, Shape(form, unread="the copy went on behind its footer").to_text())
        found = _read(form, self._head, self._tail, self._size)
        return found if self._named or found.rows is not None else None


def read_footer(name: bytes, data: bytes) -> TableFacts | None:
    """The facts of a file that is at hand as a whole."""
    footer = Footer(name, len(data))
    footer.take(memoryview(data))
    return footer.facts()


def _format_of(head: bytes) -> str | None:
    return next((form for form, magic in _MAGIC.items() if head.startswith(magic)), None)


def _parquet_footer(end: memoryview | bytes) -> int:
    """Bytes of the footer that `end` closes with; 0 where it does not lie there whole, or is longer than `TAIL`."""
    size = int.from_bytes(end[-8:-4], "little") + 8
    return size if end[-4:] == _MAGIC["parquet"] and size <= min(len(end), TAIL) else 0


def _read(form: str, head: bytes, tail: bytes, size: int) -> TableFacts:
    try:
        problem = _cut(form, head, tail, size)
        if problem:
            return TableFacts(None, problem.to_text())
        rows, schema = _parquet(tail, size) if form == "parquet" else _orc(tail)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return TableFacts(None, Shape(form, problem=f"its footer does not open: {reason}").to_text())
    columns = tuple((field.name, str(field.type)) for field in schema)
    return TableFacts(rows, Shape(form, columns).to_text())


def _cut(form: str, head: bytes, tail: bytes, size: int) -> Shape | None:
    """What is wrong before anything is parsed."""
    magic = _MAGIC[form]
    if not size:
        return Shape(form, problem="it is empty")
    if form == "parquet" and _ENCRYPTED in (head, tail[-4:]):
        return Shape(form, unread="its footer is encrypted")
    if not head.startswith(magic):
        return Shape(form, problem=f"it does not begin with {magic.decode()}")
    if form == "orc":
        return None
    if tail[-4:] != magic or size < 12:
        return Shape(form, problem="it is cut off: PAR1 is missing at its end")
    length = int.from_bytes(tail[-8:-4], "little")
    if length + 12 > size:
        return Shape(form, problem=f"its footer claims {length:,} bytes, the file has {size:,}")
    return Shape(form, unread=f"its footer takes {length:,} bytes") if length + 8 > len(tail) else None


def _parquet(tail: bytes, size: int) -> tuple[int, pa.Schema]:
    import pyarrow.parquet as pq

    length = int.from_bytes(tail[-8:-4], "little")
    # The reader wants a file: one without any content has the same footer.
    found = pq.read_metadata(pa.BufferReader(b"PAR1" + tail[-8 - length :]))
    end = max((_end(found.row_group(number)) for number in range(found.num_row_groups)), default=0)
    if end + length + 8 > size:
        raise ValueError(f"its columns end at byte {end:,}, the file has {size:,}")
    return found.num_rows, found.schema.to_arrow_schema()


def _end(group: Any) -> int:
    """Where the last column chunk of a row group ends: one look, as column chunks are written in order."""
    if not group.num_columns:
        return 0
    chunk = group.column(group.num_columns - 1)
    first = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
    return int(first + chunk.total_compressed_size)


def _orc(tail: bytes) -> tuple[int, pa.Schema]:
    from pyarrow import orc

    found = orc.ORCFile(pa.BufferReader(b"ORC" + tail))
    return found.nrows, found.schema
