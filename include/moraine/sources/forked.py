"""What a forked process owes the one that it is a copy of."""

from __future__ import annotations

import ctypes
import os
import signal

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
