"""Processes that are forked to do something ahead, and what they owe the one that they are a copy of."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any

from moraine import interrupts

_PR_SET_PDEATHSIG = 1


def settle_in(parent: int) -> None:
    """In the new process: leave Ctrl-C to `parent`, and be gone when that is: nobody else would end this one.

    A terminal sends SIGINT to all processes; the first one decides what becomes of the others.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prctl = getattr(ctypes.CDLL(None), "prctl", None)  # elsewhere than on Linux the broken pipe has to do
    if prctl:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


class Teller:
    """A process that tells what it finds through a pipe, whose size bounds how far it runs ahead."""

    def __init__(self, child: int, pipe: IO[bytes]) -> None:
        self._child = child
        self.pipe = pipe

    def close(self) -> None:
        """End the process, whether or not it is done."""
        self.pipe.close()
        # Where the system reaps children by itself there is nothing to wait for, nor a number that is safe to signal.
        with suppress(ChildProcessError):
            if os.waitpid(self._child, os.WNOHANG) == (0, 0):
                os.kill(self._child, signal.SIGKILL)  # it has written nothing that could be left half done
                os.waitpid(self._child, 0)


def fork_teller(tell: Callable[[IO[bytes]], None]) -> Teller | None:
    """Begin `tell`; None where a fork is not safe, as another thread could hold a lock over it, or not possible.

    Whatever `tell` raises ends the process without a word.
    """
    if threading.active_count() > 1:
        return None
    teller = None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, interrupts.SIGNALS)  # until the process knows what to do with them
        with suppress(OSError):
            teller = _fork(tell, before)
    finally:
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        except BaseException:  # one that came meanwhile
            if teller:
                teller.close()
            raise
    return teller


def _fork(tell: Callable[[IO[bytes]], None], mask: set[Any]) -> Teller:
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
        return Teller(child, os.fdopen(reads, "rb"))
    try:
        os.close(reads)
        settle_in(parent)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it goes to a whole group; the parent ends this one
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        with os.fdopen(writes, "wb") as out:
            tell(out)
    finally:
        os._exit(0)
