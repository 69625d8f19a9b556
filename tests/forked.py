"""Calls in a process of their own, which may die or give up its rights."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from typing import Any

from moraine.errors import MoraineError


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
