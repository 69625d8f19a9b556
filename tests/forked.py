"""Calls in a process or session of their own, which may die or give up its rights."""

from __future__ import annotations

import errno
import os
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from moraine.errors import MoraineError
from moraine.model.progress import NoProgress


def in_child(function: Callable[[], Any]) -> Any:
    """What a function returns or raises in a forked process; the number of the signal that killed it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            try:
                outcome = function()
            except MoraineError as error:
                outcome = error
            os.write(writer, pickle.dumps(outcome))
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    return pickle.loads(answer) if answer else -os.waitstatus_to_exitcode(status)


def in_session(act: Callable[[], None]) -> int:
    """Run in the first process of a session of its own; how that ended. Nothing of the session may be left."""
    child = os.fork()
    if not child:
        try:
            os.setsid()
            act()
            os._exit(0)
        except KeyboardInterrupt:
            os._exit(130)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    ends = time.monotonic() + 5
    while alive(child):
        assert time.monotonic() < ends, "a process has outlived the first one"
        time.sleep(0.01)
    return code


def alive(session: int) -> list[str]:
    """Processes of a session that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # gone meanwhile
            state, _, _, its, *_ = path.read_text().rpartition(")")[2].split()
            if int(its) == session and state not in "ZX":
                found.append(path.parent.name)
    return found


def refuse_forks(monkeypatch: pytest.MonkeyPatch, *refused: bool) -> Iterator[bool]:
    """Let the system have no room for some of the next processes; what is left of the answers."""
    fork, answers = os.fork, iter(refused)

    def answer() -> int:
        if next(answers):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return fork()

    monkeypatch.setattr(os, "fork", answer)
    return answers


class At(NoProgress):
    """Calls a function when something was written for the nth time."""

    def __init__(self, number: int, call: Callable[[], object]) -> None:
        self._left, self._call = number, call

    def advance(self, files: int = 0, bytes: int = 0) -> None:
        self._left -= 1
        if self._left == 0:
            self._call()
