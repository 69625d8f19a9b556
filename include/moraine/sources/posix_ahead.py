"""A walk in a process of its own: a tree is listed on one core while another still loads what rows are made into.

Loading NumPy and Arrow takes as long as a `stat` of 50,000 files, and Python does one of them at a time. The process is
forked before they are loaded. It sends packed rows through a pipe, whose size bounds how far it runs ahead.
"""

from __future__ import annotations

import marshal
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from struct import Struct
from typing import IO, Any

from moraine import interrupts
from moraine.errors import SourceError
from moraine.sources.forked import settle_in
from moraine.sources.posix_rows import PackedRows
from moraine.sources.posix_walk import Walk

_HEAD = Struct("<cQ")  # what follows, and its length in bytes
_ROWS, _ERROR, _END = b"R", b"E", b"."


class WalkAhead:
    """The process, and what it has found."""

    def __init__(self, child: int, pipe: IO[bytes]) -> None:
        self._child = child
        self._pipe = pipe

    def pieces(self) -> Iterator[PackedRows]:
        """What `Walk.pieces` delivers there. Raises what it raises; SourceError: the process was killed."""
        while True:
            head = self._pipe.read(_HEAD.size)
            form, length = _HEAD.unpack(head) if len(head) == _HEAD.size else (_ERROR, 0)
            body = self._pipe.read(length)
            if len(body) < length or form == _ERROR:
                raise pickle.loads(body) if body and len(body) == length else _killed()
            if form == _END:
                return
            piece = PackedRows(*marshal.loads(body))
            del body  # the rows are held once
            yield piece

    def close(self) -> None:
        """End the process, whether or not it is done."""
        self._pipe.close()
        # Where the system reaps children by itself there is nothing to wait for, nor a number that is safe to signal.
        with suppress(ChildProcessError):
            if os.waitpid(self._child, os.WNOHANG) == (0, 0):
                os.kill(self._child, signal.SIGKILL)  # it has written nothing that could be left half done
                os.waitpid(self._child, 0)


def walk_ahead(open_walk: Callable[[], Walk]) -> WalkAhead | None:
    """Begin a walk; None where a fork is not safe, as another thread could hold a lock over it, or not possible."""
    if threading.active_count() > 1:
        return None
    ahead = None
    before = signal.pthread_sigmask(
        signal.SIG_BLOCK, interrupts.SIGNALS
    )  # until the process knows what to do with them
    try:
        with suppress(OSError):
            ahead = _fork(open_walk, before)
    finally:
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        except BaseException:  # one that came meanwhile
            if ahead:
                ahead.close()
            raise
    return ahead


def _fork(open_walk: Callable[[], Walk], mask: set[Any]) -> WalkAhead:
    parent = os.getpid()
    reads, writes = os.pipe()
    try:
        child = os.fork()
    except OSError:
        os.close(reads)
        os.close(writes)
        raise
    if child:
        os.close(writes)
        return WalkAhead(child, os.fdopen(reads, "rb"))
    try:
        os.close(reads)
        settle_in(parent)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it goes to a whole group; the parent ends this one
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _tell(open_walk, writes)
    finally:
        os._exit(0)


def _tell(open_walk: Callable[[], Walk], pipe: int) -> None:
    with os.fdopen(pipe, "wb") as out:
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
