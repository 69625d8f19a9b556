"""Parts of a step in processes of their own, which share what this one has open. Knows nothing of what they do.

Python works on one core at a time, and a tree of small files is mostly Python and system calls. A forked process does
its part with what it was born with, and tells through a pipe how far it is and what came of it. All end with this
process, and this one ends the others when one fails: what they have written stays, and the same command, run again,
goes on from there.
"""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, NoReturn

from moraine import interrupts
from moraine.errors import RestoreError
from moraine.model.progress import Progress
from moraine.model.record import dataclass
from moraine.sources.forked import settle_in
from moraine.stores.base import Store
from moraine.stores.local import LocalStore
from moraine.stores.memory import MemoryStore

Part = Callable[[Progress], Any]
Apart = Callable[[Part, Progress], Iterable[Any]]
Take = Callable[[Any], object]


@dataclass(frozen=True, slots=True)
class _Said:
    """Something that came of a part."""

    what: Any


@dataclass(frozen=True, slots=True)
class _Ended:
    """Nothing more will."""


@dataclass(frozen=True, slots=True)
class _Telling:
    """Progress that another process hears of."""

    pipe: Connection

    def start(self, phase: str, files: int | None = None, bytes: int | None = None) -> None:
        """Said by the process that hears."""

    def advance(self, files: int = 0, bytes: int = 0) -> None:
        """So much more is done. Raises OSError when nobody listens any more."""
        self.pipe.send((files, bytes))

    def finish(self, phase: str) -> None:
        """Said by the process that hears."""


def may_fork(store: Store) -> bool:
    """Whether a store works on both sides of a fork, and no thread of ours could hold a lock over it."""
    return isinstance(store, LocalStore | MemoryStore) and threading.active_count() == 1


def in_processes(parts: Sequence[Part], progress: Progress, *, name: str, apart: Apart, take: Take) -> None:
    """Do parts at once, each in a forked process; all have ended when this returns or raises.

    Args:
        parts: what to do. Each is told where to report progress.
        progress: told of what they have done.
        name: what they are parts of, for people.
        apart: does a part in a process of its own, and yields what came of it, piece by piece.
        take: is given each of those; or what the part returns, where the system had no room for one more process.

    Raises:
        RestoreError: one of them was killed. Whatever one of them raises is raised here too.
    """
    running: dict[Connection, int] = {}
    try:
        alone = [part for part in parts if not _start(partial(apart, part), running)]
        for part in alone:
            take(part(progress))
        while running:
            for pipe in wait(list(running)):
                if isinstance(pipe, Connection):
                    _hear(pipe, running, progress, take, name)
    finally:
        _stop(running)


def _start(work: Callable[[Progress], Iterable[Any]], running: dict[Connection, int]) -> bool:
    """Fork a process for a part; False where the system has no room for one more."""
    parent = os.getpid()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, interrupts.SIGNALS)  # until the process is known and knows them
        hears, tells = Pipe(duplex=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of Arrow's idle threads, which are ready for a fork
            child = os.fork()
        if not child:
            _live(work, tells, [hears, *running], before, parent)
        running[hears] = child
        tells.close()
        return True
    except OSError:
        return False
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _live(
    work: Callable[[Progress], Iterable[Any]], pipe: Connection, others: list[Connection], mask: set[Any], parent: int
) -> NoReturn:
    """The life of a process; nothing of the one that it is a copy of is to be closed, flushed or told at its end."""
    code = 1
    try:
        for other in others:
            other.close()  # else nobody would notice that the first process is gone
        interrupts.heed(signal.SIGTERM)
        settle_in(parent)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        pipe.send(_told(work, pipe))
        code = 0
    finally:
        os._exit(code)


def _told(work: Callable[[Progress], Iterable[Any]], pipe: Connection) -> _Ended | Exception:
    """Do it and say what comes of it; the last word."""
    try:
        for what in work(_Telling(pipe)):
            pipe.send(_Said(what))
    except Exception as error:
        return error
    return _Ended()


def _hear(pipe: Connection, running: dict[Connection, int], progress: Progress, take: Take, name: str) -> None:
    try:
        message = pipe.recv()
    except (EOFError, OSError):
        message = None
    if isinstance(message, tuple):
        progress.advance(*message)
        return
    if isinstance(message, _Said):
        take(message.what)
        return
    pipe.close()
    code = os.waitstatus_to_exitcode(os.waitpid(running[pipe], 0)[1])
    del running[pipe]  # only now: an interrupt that comes before leaves it to `_stop`
    if isinstance(message, Exception):
        raise message
    if not isinstance(message, _Ended):
        raise _killed(name, code)


def _stop(running: dict[Connection, int]) -> None:
    for pipe, child in running.items():
        pipe.close()
        with suppress(ChildProcessError):  # it has been waited for; the number may be another's by now
            if os.waitpid(child, os.WNOHANG) == (0, 0):
                os.kill(child, signal.SIGTERM)
    for child in running.values():
        with suppress(ChildProcessError):
            os.waitpid(child, 0)


def _killed(name: str, code: int) -> RestoreError:
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    return RestoreError(
        f"a process of this {name} {how}; not everything is written",
        hint="run it again, it goes on; if memory was short, the kernel's log says so (dmesg)",
    )
