"""A running Airflow of `./moraine up` or `./moraine many`, driven as a user does: REST and the command line."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from servers import free_port

# Looks more often than a deployment should: tests wait for what it sees.
PROMPT = ["core.dags_are_paused_at_creation=False", "dag_processor.refresh_interval=10"]
# A task whose process was lost is noticed after 20 s instead of 5 minutes.
PROMPT += [
    "scheduler.task_instance_heartbeat_timeout=20",
    "scheduler.task_instance_heartbeat_timeout_detection_interval=5",
]
ENDED = ("success", "failed")


@dataclass
class AirflowSet:
    """What runs, and how to ask it."""

    checkout: Path
    home: Path
    environ: Mapping[str, str]
    port: int = field(default_factory=free_port)
    token: str = ""

    def ask(self, path: str, body: Any = None, *, method: str | None = None) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for again in range(60):
            try:
                with opener.open(request, timeout=90) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                raise AssertionError(f"{path}: {error.code} {error.read().decode()[:2000]}") from error
            except OSError as error:  # the server may be restarting; what it may have done is not asked for twice
                refused = isinstance(getattr(error, "reason", error), ConnectionRefusedError)
                if again == 59 or not (refused or body is None):
                    raise
                time.sleep(1)
        return None

    def command(self, *arguments: str, code: int | None = 0) -> str:
        """`./moraine …` in this checkout; its output, or all that it said where any code will do."""
        command = [self.checkout / "moraine", *arguments]
        done = subprocess.run(command, env=dict(self.environ), capture_output=True, text=True, check=False)
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done.stdout if code is not None else done.stdout + done.stderr

    def start(self, dag: str, **conf: Any) -> str:
        """Start a run by hand; its id."""
        body = {"logical_date": None, "conf": conf}
        return str(self.ask(f"/api/v2/dags/{dag}/dagRuns", body)["dag_run_id"])

    def runs(self, dag: str) -> list[dict[str, Any]]:
        return list(self.ask(f"/api/v2/dags/{dag}/dagRuns?limit=100&order_by=run_after")["dag_runs"])

    def state(self, dag: str, run: str) -> str:
        return str(self.ask(f"/api/v2/dags/{dag}/dagRuns/{run}")["state"])

    def tasks(self, dag: str, run: str) -> dict[str, dict[str, Any]]:
        """The task instances of a run: `open`, `copy[1]` …"""
        found = self.ask(f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances?limit=500")["task_instances"]
        return {_name(task): task for task in found}

    def tries(self, dag: str, run: str) -> dict[str, str]:
        """State and number of tries: `copy[1]` → `success 2`."""
        return {name: f"{task['state']} {task['try_number']}" for name, task in self.tasks(dag, run).items()}

    def log(self, dag: str, run: str, task: str, number: int = 1, part: int = -1) -> str:
        """What a try of a task has logged."""
        path = f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/{number}?map_index={part}&full_content=true"
        return json.dumps(self.ask(path)["content"])

    def clear(self, dag: str, run: str, *tasks: Any, downstream: bool = True, failed: bool = False) -> list[str]:
        """What the page's "clear" does; the names of what was cleared."""
        body = {
            "dry_run": False,
            "dag_run_id": run,
            "task_ids": list(tasks) or None,
            "include_downstream": downstream,
            "only_failed": failed,
        }
        found = self.ask(f"/api/v2/dags/{dag}/clearTaskInstances", body)["task_instances"]
        return sorted(_name(task) for task in found)

    def await_end(self, dag: str, run: str, seconds: float = 600, state: str = "success") -> dict[str, str]:
        """Wait for the end of a run; state and tries of its tasks."""
        ended = until(lambda: (now := self.state(dag, run)) in ENDED and now, seconds, f"{dag} {run} ends")
        tries = self.tries(dag, run)
        assert ended == state, tries
        return tries

    def processes(self) -> dict[str, int]:
        recorded = json.loads((self.home / "processes.json").read_text())
        return {name: pid for name, (pid, _) in recorded.items()}


@contextmanager
def up(running: AirflowSet, verb: str, settings: Sequence[str]) -> Iterator[AirflowSet]:
    """Start it and log in; when the block has ended, nothing of it is left."""
    words = [word for setting in settings for word in ("--set", setting)]
    command = [running.checkout / "moraine", verb, "--port", str(running.port), *words]
    process = subprocess.Popen(
        command, env=dict(running.environ), stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout
    started: dict[int, psutil.Process] = {}
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(process.stdout or ()))
    try:
        for line in process.stdout:
            said.append(line)
            if login := re.search(r"user (\w+), password (\S+)", line):
                token = running.ask("/auth/token", {"username": login[1], "password": login[2]})
                running.token = token["access_token"]
                break
        else:
            pytest.fail(f"it ended before it was ready: {''.join(said)}")
        started = {child.pid: child for child in psutil.Process(process.pid).children(recursive=True)}
        reader.start()  # it tells of every run, and would stand still once the pipe is full
        yield running
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=120)
    reader.join()
    assert process.returncode == 0
    assert any("no process is left" in line for line in said)
    assert [child for child in started.values() if child.is_running()] == []


def until(true: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first answer that is not empty."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := true():
            return found
        time.sleep(0.3)
    return pytest.fail(f"not within {seconds:.0f} s: {what}")


def kill_tree(pid: int) -> None:
    """As if its machine had lost power: nothing below it lives on."""
    top = psutil.Process(pid)
    top.suspend()  # it starts nothing more
    for process in [*top.children(recursive=True), top]:
        process.kill()


def _name(task: dict[str, Any]) -> str:
    return task["task_id"] if task["map_index"] < 0 else f"{task['task_id']}[{task['map_index']}]"
