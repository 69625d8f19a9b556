"""Parts of a restore in processes of their own, which share what this one has open. Knows nothing of packs or rows.

Python works on one core at a time, and a tree of small files is mostly Python and system calls. A forked process writes
its part with the writer it was born with and tells through a pipe what it has done; notes and counts end up in this
process's writer. All end with this process, and this one ends the others when one fails: what they have written stays,
and the same restore, run again, goes on from there.
"""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, NoReturn

from moraine import interrupts
from moraine.errors import RestoreError
from moraine.model.progress import Progress
from moraine.model.record import dataclass
from moraine.sources.forked import settle_in
from moraine.sources.posix_target_writer import PosixWriter
from moraine.sources.target import Notes
from moraine.stores.base import Store
from moraine.stores.local import LocalStore
from moraine.stores.memory import MemoryStore

Part = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a process did from beginning to end."""

    counts: dict[str, int]
    notes: Notes


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


def in_processes(parts: Sequence[Part], writer: PosixWriter, progress: Progress) -> None:
    """Do parts at once, each in a forked process; all have ended when this returns or raises.

    Args:
        parts: what to do. Each is told where to report progress; it writes with `writer` as it is in its process.
        writer: takes notes and counts of all of them.
        progress: told of what they have done.

    Raises:
        RestoreError: one of them was killed. Whatever one of them raises is raised here too.
    """
    running: dict[Connection, int] = {}
    try:
        alone = [part for part in parts if not _start(part, writer, running)]
        for part in alone:
            part(progress)
        while running:
            for pipe in wait(list(running)):
                if isinstance(pipe, Connection):
                    _hear(pipe, running, writer, progress)
    finally:
        _stop(running)


def _start(part: Part, writer: PosixWriter, running: dict[Connection, int]) -> bool:
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
            _live(partial(_outcome, part, writer, tells), tells, [hears, *running], before, parent)
        running[hears] = child
        tells.close()
        return True
    except OSError:
        return False
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _live(
    work: Callable[[], _Outcome | Exception], pipe: Connection, others: list[Connection], mask: set[Any], parent: int
) -> NoReturn:
    """The life of a process; nothing of the one that it is a copy of is to be closed, flushed or told at its end."""
    code = 1
    try:
        for other in others:
            other.close()  # else nobody would notice that the first process is gone
        interrupts.heed(signal.SIGTERM)
        settle_in(parent)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        pipe.send(work())
        code = 0
    finally:
        os._exit(code)


def _outcome(part: Part, writer: PosixWriter, pipe: Connection) -> _Outcome | Exception:
    before = writer.counts
    writer.notes.kept.clear()
    writer.notes.counts.clear()
    try:
        with writer:  # which removes what is not complete
            part(_Telling(pipe))
    except Exception as error:
        return error
    return _Outcome({name: count - before[name] for name, count in writer.counts.items()}, writer.notes)


def _hear(pipe: Connection, running: dict[Connection, int], writer: PosixWriter, progress: Progress) -> None:
    try:
        message = pipe.recv()
    except (EOFError, OSError):
        message = None
    if isinstance(message, tuple):
        progress.advance(*message)
        return
    pipe.close()
    code = os.waitstatus_to_exitcode(os.waitpid(running[pipe], 0)[1])
    del running[pipe]  # only now: an interrupt that comes before leaves it to `_stop`
    if isinstance(message, Exception):
        raise message
    if not isinstance(message, _Outcome):
        raise _killed(code)
    writer.join(message.counts, message.notes)


def _stop(running: dict[Connection, int]) -> None:
    for pipe, child in running.items():
        pipe.close()
        with suppress(ChildProcessError):  # it has been waited for; the number may be another's by now
            if os.waitpid(child, os.WNOHANG) == (0, 0):
                os.kill(child, signal.SIGTERM)
    for child in running.values():
        with suppress(ChildProcessError):
            os.waitpid(child, 0)


def _killed(code: int) -> RestoreError:
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    return RestoreError(
        f"a process of this restore {how}; not everything is written",
        hint="run the same restore again, it goes on; if memory was short, the kernel's log says so (dmesg)",
    )
