"""A walk in a process of its own: a tree is listed on one core while another still loads what rows are made into.

Loading NumPy and Arrow takes as long as a `stat` of 50,000 files, and Python does one of them at a time. The process is
forked before they are loaded. It sends packed rows through a pipe, whose size bounds how far it runs ahead.
"""

from __future__ import annotations

import marshal
import pickle
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from struct import Struct
from typing import IO

from moraine.errors import SourceError
from moraine.sources.forked import Teller, fork_teller
from moraine.sources.posix_rows import PackedRows
from moraine.sources.posix_walk import Walk

_HEAD = Struct("<cQ")  # what follows, and its length in bytes
_ROWS, _ERROR, _END = b"R", b"E", b"."


class WalkAhead:
    """The process, and what it has found."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller

    def pieces(self) -> Iterator[PackedRows]:
        """What `Walk.pieces` delivers there. Raises what it raises; SourceError: the process was killed."""
        pipe = self._teller.pipe
        while True:
            head = pipe.read(_HEAD.size)
            form, length = _HEAD.unpack(head) if len(head) == _HEAD.size else (_ERROR, 0)
            body = pipe.read(length)
            if len(body) < length or form == _ERROR:
                raise pickle.loads(body) if body and len(body) == length else _killed()
            if form == _END:
                return
            piece = PackedRows(*marshal.loads(body))
            del body  # the rows are held once
            yield piece

    def close(self) -> None:
        """End the process, whether or not it is done."""
        self._teller.close()


def walk_ahead(open_walk: Callable[[], Walk]) -> WalkAhead | None:
    """Begin a walk; None where that cannot be."""
    teller = fork_teller(partial(_tell, open_walk))
    return WalkAhead(teller) if teller else None


def _tell(open_walk: Callable[[], Walk], out: IO[bytes]) -> None:
    try:
        with open_walk() as walk:
            for piece in walk.pieces():
                _send(out, _ROWS, marshal.dumps(tuple(piece)))
        _send(out, _END, b"")
    except Exception as error:
        error.add_note(traceback.format_exc())  # of a bug; it does not cross by itself
        _send(out, _ERROR, pickle.dumps(error))


def _send(out: IO[bytes], form: bytes, body: bytes) -> None:
    out.write(_HEAD.pack(form, len(body)))
    out.write(body)
    out.flush()


def _killed() -> SourceError:
    return SourceError(
        "the process that lists the source was ended from outside",
        hint="run the same again; if memory was short, the kernel's log says so (dmesg)",
    )
