"""Marks of processes: how a later run on this host tells whether the one that opened a session still lives."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from moraine.steps.backup import Holder


def this_process() -> Holder:
    """The holder that this process is."""
    return Holder(socket.gethostname(), _mark(os.getpid()), is_alive)


def is_alive(mark: str) -> bool:
    """Whether the process of a mark runs on this host. A process id that was given out anew has another mark."""
    number = mark.partition("-")[0]
    return number.isdigit() and _mark(int(number)) == mark


def _mark(process: int) -> str:
    """The process id, when it started, and which boot that was, as far as the system tells."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return _mark_without_proc(process)
    state, *fields = stat.rpartition(")")[2].split()
    return f"{process}-{fields[18]}-{boot}" if state != "Z" else ""


def _mark_without_proc(process: int) -> str:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return f"{process}-"
