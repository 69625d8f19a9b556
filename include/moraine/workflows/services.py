"""Airflow's four services as children of this process: started, watched, and stopped without a process left.

Knows processes and ports only. Each service gets a session of its own, so Ctrl-C reaches this process alone; and this
process adopts every orphan below it, so that what a dying service leaves behind is found and ended too.
"""

from __future__ import annotations

import ctypes
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from moraine.errors import ConfigError

COMMANDS = {
    "api-server": ["api-server", "--workers", "1"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
_PR_SET_CHILD_SUBREAPER = 36
_PATIENCE = 5.0  # seconds between asking a process to end and killing it


@dataclass
class Services:
    """The running services by name."""

    environment: Mapping[str, str]
    logs: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self) -> None:
        """Start all of them; each writes to a log of its own."""
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        for name, arguments in COMMANDS.items():
            with self.log(name).open("ab") as output:
                self.running[name] = subprocess.Popen(
                    [sys.executable, "-P", "-m", "airflow", *arguments],
                    env=dict(self.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )

    def log(self, name: str) -> Path:
        """Where a service's output goes."""
        return self.logs / f"{name}.log"

    def ended(self) -> str | None:
        """The name of a service that has ended of itself."""
        return next((name for name, process in self.running.items() if process.poll() is not None), None)

    def stop(self) -> None:
        """End all of them and whatever they started, first politely; returns when nothing is left."""
        for process in self.running.values():
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and _below():
            time.sleep(0.1)
        for _ in range(50):  # a killed process may have had children that nobody saw yet
            left = _below()
            if not left:
                return
            for child in left:
                _kill(child)
            psutil.wait_procs(left, timeout=1)


def _below() -> list[psutil.Process]:
    """All living processes below this one; ended ones are waited for on the way."""
    found = psutil.Process().children(recursive=True)
    gone, alive = psutil.wait_procs(found, timeout=0)
    del gone
    return [process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


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
