"""Ctrl-C and SIGTERM as KeyboardInterrupt that is not lost and leaves no lock behind.

Python runs a signal's handler between any two instructions of the first thread, also where raising does harm:
- Behind the lock that `Condition.__enter__` has just taken, nobody gives it back, and threads wait for it for ever. So
  nothing is raised from modules that handle locks, unless they stay where they are: then they wait.
- What is raised in a destructor, or in a callback or import that C++ or Rust asked for, is often dropped, and the work
  goes on. So it is raised again when nobody holds any more what was raised, and no "Exception ignored" is printed.
(The documentation of Python's `signal` warns of this under "Note on Signal Handlers and Exceptions".)
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from weakref import ref

_LOCKING = ("threading", "queue", "concurrent.futures", "importlib._bootstrap", "logging")
_PATIENCE = 1.0  # seconds after which it is raised anywhere
_PAUSE = 0.01  # seconds between two looks
_LOOK = signal.SIGALRM

SIGNALS = (signal.SIGINT, signal.SIGTERM, _LOOK)  # what to block where nothing may be raised


class Interrupt(KeyboardInterrupt):
    """What is raised; unlike its base it can be referred to weakly."""


class _State:
    """What has become of the process's signals."""

    asked = False
    over = False
    busy = False  # one handler may interrupt another, whose frames would then hide what was at work
    looked = 0.0  # when the last look was over
    look: Callable[[FrameType | None], None]
    tell: Callable[[sys.UnraisableHookArgs], object]  # of what else was dropped


def heed(*numbers: signal.Signals) -> None:
    """From now on these signals interrupt the process; SIGTERM does it once. To be called by the first thread."""
    _State.asked = _State.over = False
    if sys.unraisablehook is not _dropped:
        _State.tell, sys.unraisablehook = sys.unraisablehook, _dropped
    for number in numbers:
        signal.signal(number, _handle)


def came() -> bool:
    """Whether the process was asked to stop; an error that ends it after that is no news."""
    return _State.asked


def disregard() -> None:
    """From now on nothing interrupts the process: neither a signal nor what is left of one."""
    _State.over = True  # first: each call below runs the handlers of what has come meanwhile
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _handle(number: int, frame: FrameType | None) -> None:
    late = number == _LOOK and time.monotonic() < _State.looked + _PAUSE / 2  # then nothing has gone on since the last
    if _State.busy or _State.over or late:
        return
    _State.busy = True
    try:
        if number == _LOOK:
            _State.look(frame)
        else:
            _ask(number, frame)
    finally:
        _State.looked = time.monotonic()
        _State.busy = False


def _ask(number: int, frame: FrameType | None) -> None:
    _State.asked = True
    if number == signal.SIGTERM:
        signal.signal(number, signal.SIG_IGN)  # it often comes to a process and to its group; what follows tidies up
    _interrupt(frame, time.monotonic() + _PATIENCE, None)


def _interrupt(frame: FrameType | None, latest: float, before: tuple[FrameType, int] | None) -> None:
    here = (frame, frame.f_lasti) if frame else None
    if frame and _handles_locks(frame) and here != before and time.monotonic() < latest:
        _look_again(lambda frame: _interrupt(frame, latest, here))
        return
    error = Interrupt()
    held = ref(error)
    _look_again(lambda frame: _raise_again(held, frame))
    try:
        raise error
    finally:
        del error  # or its own traceback would hold it


def _raise_again(held: ref[Interrupt], frame: FrameType | None) -> None:
    if held() is None:
        _interrupt(frame, time.monotonic() + _PATIENCE, None)


def _look_again(then: Callable[[FrameType | None], None]) -> None:
    _State.look = then
    signal.signal(_LOOK, _handle)
    signal.setitimer(signal.ITIMER_REAL, _PAUSE, _PAUSE)


def _dropped(what: sys.UnraisableHookArgs) -> None:
    if not isinstance(what.exc_value, Interrupt):
        _State.tell(what)


def _handles_locks(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).startswith(_LOCKING)
