"""One task on several processors: forked processes that take their items from one list.

For work that holds the interpreter's lock too often for threads to share it. A forked process has everything its
parent has in memory and starts in milliseconds, but of the parent's threads it has only the one that forked: whatever
another one held stays held in it for ever. So fork only where `may_fork` says so.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import threading
import warnings
from array import array
from collections.abc import Callable, Iterator
from select import select
from typing import Any, NoReturn

from moraine.errors import MoraineError

_LENGTH = struct.Struct("<Q")
_ENDING = {signal.SIGINT, signal.SIGTERM}


def may_fork() -> bool:
    """Whether this process has only the thread that asks, as far as Python knows: what C libraries start is theirs."""
    return threading.active_count() == 1 and hasattr(os, "memfd_create")


def in_processes(work: Callable[[int], Any], count: int, processes: int) -> Iterator[Any]:
    """What `work` returns for each number below `count`, as it comes; every process has its own copy of the rest.

    The processes end with the iterator, also when it is closed early.

    Raises:
        MoraineError: a process was killed.
        Whatever `work` raises.
    """
    turns = os.memfd_create("turns")
    os.write(turns, array("I", range(count)).tobytes())
    os.lseek(turns, 0, os.SEEK_SET)  # the place in it is common to all: who reads a number has it alone
    children: dict[int, int] = {}  # what can be read of a process: its id
    try:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # so that no child is lost, and none runs on in here
        try:
            for _ in range(min(processes, count)):
                reader, writer = os.pipe()
                child = _fork()
                if not child:
                    _serve(work, turns, writer, [reader, *children])
                os.close(writer)
                children[reader] = child
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield from _answers(children)
    finally:
        os.close(turns)
        for reader, child in children.items():
            os.close(reader)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _fork() -> int:
    with warnings.catch_warnings():  # newer Pythons warn of threads of any library, also of those that handle a fork
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _serve(work: Callable[[int], Any], turns: int, writer: int, others: list[int]) -> NoReturn:
    """The life of a child. It answers (result, None) or (None, error), and never returns to its parent's code."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends its children
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        for other in others:
            os.close(other)
        with open(writer, "wb", buffering=0) as pipe:
            while turn := os.read(turns, 4):
                data = pickle.dumps(_result(work, array("I", turn)[0]), pickle.HIGHEST_PROTOCOL)
                view = memoryview(_LENGTH.pack(len(data)) + data)
                while view:
                    view = view[pipe.write(view) :]
        code = 0
    finally:
        os._exit(code)


def _result(work: Callable[[int], Any], number: int) -> tuple[Any, Exception | None]:
    try:
        return work(number), None
    except Exception as error:
        return None, error


def _answers(children: dict[int, int]) -> Iterator[Any]:
    waiting = {reader: bytearray() for reader in children}
    while children:
        for reader in select(list(children), [], [])[0]:
            data = os.read(reader, 1 << 20)
            if not data:
                os.close(reader)
                _require_well(children.pop(reader))
            held = waiting[reader]
            held += data
            while len(held) >= _LENGTH.size and len(held) >= (end := _LENGTH.size + _LENGTH.unpack_from(held)[0]):
                answer, error = pickle.loads(memoryview(held)[_LENGTH.size : end])
                del held[:end]
                if error is not None:
                    raise error
                yield answer


def _require_well(child: int) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        raise MoraineError(
            f"a process that did part of the work {how}", hint="was memory short? otherwise simply run it again"
        )
