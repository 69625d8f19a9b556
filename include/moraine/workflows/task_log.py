"""What a task says in its log: progress now and then, one sentence at the end, an error as one line.

An error is kept as an XCom too: whoever is told of a failed run is told why.
"""

from __future__ import annotations

import functools
import json
import logging
import time
from collections.abc import Callable
from typing import Any, ParamSpec

from airflow.sdk import get_current_context

from moraine.errors import MoraineError
from moraine.model.units import format_size
from moraine.workflows.sentences import sentence
from moraine.workflows.signals import tell_step

log = logging.getLogger("moraine")

RESULT = "result"  # XCom keys
ERROR = "error"  # of the last try that failed; notifiers read it
Json = dict[str, Any]
P = ParamSpec("P")
_EVERY = 10.0  # seconds between two lines of progress


class LogProgress:
    """Progress as plain lines in the task log."""

    def __init__(self) -> None:
        self._phase = ""
        self._begun = self._said = 0.0
        self._files = self._bytes = 0
        self._of_files: int | None = None
        self._of_bytes: int | None = None

    def start(self, phase: str, files: int | None = None, bytes: int | None = None) -> None:
        """Begin counting."""
        self._phase, self._files, self._bytes, self._of_files, self._of_bytes = phase, 0, 0, files, bytes
        self._begun = self._said = time.monotonic()

    def advance(self, files: int = 0, bytes: int = 0) -> None:
        """Count, and say so when the last line is old."""
        self._files += files
        self._bytes += bytes
        if time.monotonic() - self._said >= _EVERY:
            self._said = time.monotonic()
            self._say("so far")

    def finish(self, phase: str) -> None:
        """Say what it came to."""
        self._phase = phase
        self._say("done")

    def _say(self, word: str) -> None:
        took = time.monotonic() - self._begun
        files = f"{self._files:,}" + (f" of {self._of_files:,}" if self._of_files is not None else "")
        size = format_size(self._bytes) + (f" of {format_size(self._of_bytes)}" if self._of_bytes is not None else "")
        rate = f", {format_size(int(self._bytes / took))}/s" if took > 1 and self._bytes else ""
        log.info("%s, %s: %s entries, %s in %.1f s%s", self._phase, word, files, size, took, rate)


def _warn(text: str | None) -> None:
    if text:
        log.warning("%s", text)


def told(step: Callable[P, Json], *, hand_out: str | None = None) -> Callable[P, Any]:
    """A task function that logs what its step came to.

    Args:
        step: returns what it came to.
        hand_out: the list in it that later tasks are mapped over. Airflow maps over whole return values only, so such
            a task returns the list, and all it came to goes under the XCom key `RESULT`.
    """

    @functools.wraps(step)
    def telling(*args: P.args, **kwargs: P.kwargs) -> Any:
        name, begun, named = step.__name__.rstrip("_"), time.monotonic(), kwargs.get("policy")
        policy = named if isinstance(named, str) else None
        try:
            result: Json = json.loads(json.dumps(step(*args, **kwargs)))  # XCom would mark tuples as such
        except MoraineError as error:
            log.error("%s", error.line())
            facts = error.to_dict()
            get_current_context()["ti"].xcom_push(ERROR, {key: facts[key] for key in ("code", "message", "hint")})
            _warn(tell_step(name, policy, time.monotonic() - begun, error))
            raise
        log.info("%s", sentence(name, result))
        _warn(tell_step(name, policy, time.monotonic() - begun, result))
        if hand_out is None:
            return result
        get_current_context()["ti"].xcom_push(RESULT, result)
        return result[hand_out]

    return telling
