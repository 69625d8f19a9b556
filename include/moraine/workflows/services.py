"""Services as children of this process: started, watched, and stopped without a process left.

Knows processes and ports only. Each service gets a session of its own, so Ctrl-C reaches this process alone; and this
process adopts every orphan below it, so that what a dying service leaves behind is found and ended too.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import field
from pathlib import Path

import psutil

from moraine.errors import ConfigError
from moraine.model.record import dataclass

_PR_SET_CHILD_SUBREAPER = 36
_PATIENCE = 5.0  # seconds between asking a process to end and killing it


@dataclass(frozen=True, slots=True)
class Command:
    """How one service is started and ended."""

    arguments: list[str]
    settings: Mapping[str, str] = field(default_factory=dict)  # on top of those that all share
    user: str | None = None  # whom it runs as; None: as this process
    end: signal.Signals = signal.SIGTERM
    base: bool = False  # the others stand on it: it ends after them


def airflow(*arguments: str, **settings: str) -> Command:
    """A service of Airflow's own."""
    return Command([sys.executable, "-P", "-m", "airflow", *arguments], settings)


COMMANDS = {
    "api-server": airflow("api-server", "--workers", "1"),
    "scheduler": airflow("scheduler", "--skip-serve-logs"),
    "dag-processor": airflow("dag-processor"),
    "triggerer": airflow("triggerer", "--skip-serve-logs"),
}


@dataclass
class Services:
    """The running services by name. `record` is a file that names their process ids while they run."""

    environment: Mapping[str, str]
    logs: Path
    commands: Mapping[str, Command] = field(default_factory=lambda: COMMANDS)
    record: Path | None = None
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self) -> None:
        """Start all that do not run yet; each writes to a log of its own."""
        for name in self.commands:
            if name not in self.running:
                self.start_one(name)

    def start_one(self, name: str) -> None:
        """Start one service, also again after it has ended; what it has left behind is ended first."""
        if name in self.running:
            _end_session(self.running[name].pid)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        command = self.commands[name]
        with self.log(name).open("ab") as output:
            self.running[name] = subprocess.Popen(
                command.arguments,
                env={**self.environment, **command.settings},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/" if command.user else None,  # a directory that another user may stand in
                start_new_session=True,
                user=command.user,
                group=command.user,
                extra_groups=[] if command.user else None,
            )
        self._keep_record()

    def log(self, name: str) -> Path:
        """Where a service's output goes."""
        return self.logs / f"{name}.log"

    def ended(self) -> str | None:
        """The name of a service that has ended of itself."""
        return next((name for name, process in self.running.items() if process.poll() is not None), None)

    def stop(self) -> None:
        """End all of them and whatever they started, first politely, what others stand on last; nothing is left."""
        self._end(base=False)
        self._end(base=True)
        if self.record:
            self.record.unlink(missing_ok=True)

    def _end(self, *, base: bool) -> None:
        for name, process in self.running.items():
            if self.commands[name].base == base and process.poll() is None:
                process.send_signal(self.commands[name].end)
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and self._left(base):
            time.sleep(0.1)
        for _ in range(50):  # a killed process may have had children that nobody saw yet
            left = self._left(base)
            if not left:
                return
            for child in left:
                _kill(child)
            psutil.wait_procs(left, timeout=1)

    def _left(self, base: bool) -> list[psutil.Process]:
        """All living processes below this one; without `base` those that the others do not stand on."""
        if base:
            return _living(psutil.Process())
        spared = [process.pid for name, process in self.running.items() if self.commands[name].base]
        below = _living(psutil.Process())
        ancestors = {process.pid: {process.pid, *(parent.pid for parent in _parents(process))} for process in below}
        return [process for process in below if not ancestors[process.pid].intersection(spared)]

    def _keep_record(self) -> None:
        if self.record:
            born = {name: [process.pid, _born(process.pid)] for name, process in self.running.items()}
            aside = self.record.with_suffix(".new")
            aside.write_text(json.dumps(born))
            aside.replace(self.record)


def end_left_over(record: Path) -> list[str]:
    """End services whose starter was killed, by their recorded ids; their names."""
    if not record.exists():
        return []
    ended = []
    for name, (pid, born) in json.loads(record.read_text()).items():
        if born is None or _born(pid) != born:  # the id belongs to somebody else by now
            continue
        process = psutil.Process(pid)
        for child in [*_living(process), process]:
            _kill(child)
        ended.append(name)
    record.unlink()
    return ended


def _born(pid: int) -> float | None:
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None


def _living(top: psutil.Process) -> list[psutil.Process]:
    """All living processes below one; ended ones are waited for on the way."""
    found = top.children(recursive=True)
    gone, alive = psutil.wait_procs(found, timeout=0)
    del gone
    return [process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def _parents(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.parents())
    except psutil.NoSuchProcess:
        return []


def _end_session(leader: int) -> None:
    """Kill all below this process that belong to the session of an ended service: nobody looks after them any more."""
    for process in psutil.Process().children(recursive=True):
        with suppress(ProcessLookupError):
            if os.getsid(process.pid) == leader:
                _kill(process)


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def choose_port(wanted: int | None, first: int = 8080) -> int:
    """The wanted port, or the first free one from `first` on. Raises ConfigError when it is taken."""
    if wanted is not None and not _free(wanted):
        raise ConfigError(
            f"port {wanted} is in use", hint="give another one with --port, or none to take the next free"
        )
    port = wanted or next((port for port in range(first, first + 100) if _free(port)), None)
    if port is None:
        raise ConfigError(f"no port from {first} to {first + 99} is free", hint="give one with --port")
    return port


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
