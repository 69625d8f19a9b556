"""run: the application opens what was restored and answers for it, in a group of processes of its own.

It is started in the restored tree, with a bare environment, and killed with all that it has started when its time is
over, when it ends, and when the drill is torn down, also where the task that started it was killed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

from moraine.errors import ConfigError
from moraine.model.policy import Application
from moraine.model.record import dataclass

_SAID = 4096  # last bytes of its output that are kept
_ROOT = "MORAINE_ROOT"
_CALL = """
import importlib, pathlib, sys
module, _, name = sys.argv[1].partition(":")
if getattr(importlib.import_module(module), name)(pathlib.Path(sys.argv[2])) is False:
    sys.exit(f"{sys.argv[1]} returned False")
"""


@dataclass(frozen=True, slots=True)
class Answered:
    """What the application said."""

    what: str
    passed: bool
    code: int | None  # None: it was killed at its time limit
    seconds: float
    said: str


def run_application(
    application: Application, root: Path, tree: Path, *, environ: Mapping[str, str], import_path: str
) -> Answered:
    """Run it to its end or its time limit.

    Args:
        application: what to run.
        root: the drill's place, for its output.
        tree: what was restored; it is started there.
        environ: all the variables it sees, besides MORAINE_ROOT, HOME and TMPDIR.
        import_path: where a callable is imported from.

    Raises:
        ConfigError: the program is not there.
    """
    words = _words(application, tree)
    scratch = root / "scratch"
    variables = {**environ, _ROOT: str(tree), "HOME": str(scratch), "TMPDIR": str(scratch)}
    if application.callable:
        variables["PYTHONPATH"] = import_path
    began = time.monotonic()
    log = root / "application.log"
    with log.open("wb") as output:
        started = _start(words, tree, variables, output)
        try:
            code: int | None = started.wait(timeout=application.timeout.total_seconds())
        except subprocess.TimeoutExpired:
            code = None
        finally:
            end_application(tree)
            started.wait()
    what = application.callable or application.command[0]
    return Answered(what, code == 0, code, round(time.monotonic() - began, 3), _tail(log))


def end_application(tree: Path) -> None:
    """Kill every process that was started to look at a restored tree, told by its environment.

    So none is missed that has left its group or outlived the task that started it; and a process that was born while
    others were killed is found in the next round.
    """
    while found := [process for process in psutil.process_iter() if _looks_at(process, str(tree))]:
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(found, timeout=1)


def _looks_at(process: psutil.Process, tree: str) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE and process.environ().get(_ROOT) == tree)
    except psutil.Error:
        return False  # gone meanwhile, or another user's


def _start(words: list[str], tree: Path, variables: dict[str, str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            words,
            cwd=tree,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise ConfigError(
            f"drill.run cannot be started: {words[0]}: {error.strerror}", hint="is it installed on the workers?"
        ) from error


def _words(application: Application, tree: Path) -> list[str]:
    if application.callable:
        return [sys.executable, "-c", _CALL, application.callable, str(tree)]
    return [word.replace("{root}", str(tree)) for word in application.command]


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - _SAID, 0))
        return file.read().decode("utf-8", "replace")
