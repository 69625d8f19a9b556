"""`./moraine run POLICY`: one run of a policy's DAG through Airflow, in the foreground, a line per step.

Owns the terminal of that run. Airflow is imported late, after its settings are in the environment and its own output
has been sent to a file.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from moraine.errors import ConfigError, MoraineError
from moraine.model.policy import Policy
from moraine.workflows.airflow_home import AirflowHome
from moraine.workflows.demo import POLICY as DEMO
from moraine.workflows.demo import live_on, prepare_demo
from moraine.workflows.policies import find_policy


def run(policy: str) -> int:
    """Prepare what is missing, run, show; the exit code."""
    home = AirflowHome()
    home.make_folders()
    try:
        with home.lock(f"run-{policy}", wait=False):
            return _run(policy, home)
    except BlockingIOError as error:
        raise ConfigError(f"{policy} is being run in another terminal", hint="wait until that has ended") from error


def _run(name: str, home: AirflowHome) -> int:
    begun = time.monotonic()
    if name == DEMO and not prepare_demo(home.root, lambda line: print(line, flush=True)):
        print(f"night {live_on(home.root)} has passed over the data lake", flush=True)
    policy = find_policy(name)
    if not (home.path / "airflow.db").exists():
        print("preparing Airflow's home (once)", flush=True)
    home.prepare(os.environ)
    settings = home.environment(os.environ)
    os.environ.clear()
    os.environ.update(settings)
    log = home.logs / f"run-{name}-{datetime.now():%Y%m%d-%H%M%S}.log"
    print(f"running DAG backup__{name}", flush=True)
    with _quiet(log) as terminal:
        code = _run_dag(policy, log, terminal)
        print(f"\n{time.monotonic() - begun:.1f} s in all", file=terminal, flush=True)
    return code


def _run_dag(policy: Policy, log: Path, terminal: IO[str]) -> int:
    from moraine.workflows.foreground import run_dag

    return run_dag(policy, log, terminal)


@contextmanager
def _quiet(log: Path) -> Iterator[IO[str]]:
    """Send standard output and error to `log`; what is yielded still writes to the terminal."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    with log.open("w") as output, os.fdopen(os.dup(kept[0]), "w") as terminal:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        try:
            yield terminal
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, number)
                os.close(copy)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="moraine run",
        description="Run a policy's DAG once through Airflow, here and now. `demo` makes its own source.",
    )
    parser.add_argument("policy", help="name of a policy of include/policies, such as demo")
    arguments: Any = parser.parse_args()
    try:
        return run(arguments.policy)
    except MoraineError as error:
        print(error.line(), file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # nobody reads on; what was to be stored is stored
        return 141
    except KeyboardInterrupt:
        print("stopped; nothing is damaged, run it again", file=sys.stderr)
        return 130


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # taking Airflow and Great Expectations apart again would take seconds
