"""`./moraine many`: a night over several workers, one of which is killed in the middle."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from compare import compare_trees
from servers import S3Server, free_port, running

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(900)]

TOLD = ["core.dags_are_paused_at_creation=False", "dag_processor.refresh_interval=10"]
# A task whose worker was killed is noticed after 20 s instead of 5 minutes.
TOLD += [
    "scheduler.task_instance_heartbeat_timeout=20",
    "scheduler.task_instance_heartbeat_timeout_detection_interval=5",
]
TOLD += ["scheduler.task_queued_timeout=60", "scheduler.task_queued_timeout_check_interval=15"]
FILES, SHARD = 48, 4


@dataclass
class Set:
    """What runs, and how to ask it."""

    checkout: Path
    home: Path
    port: int
    token: str = ""

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as answer:
            return json.load(answer)

    def copies(self, run: str) -> list[dict[str, Any]]:
        found = self.ask(f"/api/v2/dags/backup__many/dagRuns/{run}/taskInstances?limit=200&task_id=copy")
        return [task for task in found["task_instances"] if task["task_id"] == "copy" and task["map_index"] >= 0]

    def state(self, run: str) -> str:
        return str(self.ask(f"/api/v2/dags/backup__many/dagRuns/{run}")["state"])

    def processes(self) -> dict[str, int]:
        recorded = json.loads((self.home / "processes.json").read_text())
        return {name: pid for name, (pid, _) in recorded.items()}


def require_databases() -> None:
    if shutil.which("redis-server") is None or not any(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        pytest.skip("needs PostgreSQL and Redis: apt install postgresql redis-server")


def make_source(folder: Path) -> None:
    """Files that do not compress, in some folders."""
    chance = random.Random(3)
    for number in range(FILES):
        file = folder / f"day-{number % 5}" / f"{number}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(chance.randbytes((4 << 20) + number))
    (folder / "day-0/link").symlink_to("0.bin")


def write_policy(checkout: Path, source: Path, server: S3Server) -> None:
    (checkout / "include/policies/demo.yaml").unlink()
    policy = {
        "policy": "many",
        "source": {"path": str(source)},
        "repository": {"url": "s3://many/night", "endpoint_url": server.endpoint_url, "connection": "store"},
        "shards": {"copy_files": SHARD},
        "tags": ["demo"],  # for which there is a DAG that waits
    }
    (checkout / "include/policies/many.yaml").write_text(yaml.safe_dump(policy))


@contextmanager
def up(checkout: Path, environ: dict[str, str]) -> Iterator[Set]:
    from moraine.workflows.databases import PostgreSQL

    many = Set(checkout, checkout / ".airflow/many", free_port())
    settings = [word for told in TOLD for word in ("--set", told)]
    command = [checkout / "moraine", "many", "--port", str(many.port), *settings]
    process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout
    started: dict[int, psutil.Process] = {}
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if login := re.search(r"user (\w+), password (\S+)", line):
                token = many.ask("/auth/token", {"username": login[1], "password": login[2]})
                many.token = token["access_token"]
                break
        else:
            pytest.fail(f"it ended before it was ready: {''.join(said)}")
        started = {child.pid: child for child in psutil.Process(process.pid).children(recursive=True)}
        yield many
    finally:
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=120)
        PostgreSQL.of(many.home, 0).remove()
    assert process.returncode == 0
    assert "no process is left" in rest
    assert [child for child in started.values() if child.is_running()] == []


def until(true: Callable[[], Any], seconds: float, what: str) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := true():
            return found
        time.sleep(0.3)
    return pytest.fail(f"not within {seconds:.0f} s: {what}")


def kill_tree(pid: int) -> None:
    """As if its machine had lost power: nothing of the worker lives on."""
    top = psutil.Process(pid)
    top.suspend()  # it starts nothing more
    for process in [*top.children(recursive=True), top]:
        process.kill()


def worked(many: Set, worker: str) -> int:
    return (many.home / f"logs/{worker}.log").read_text(errors="replace").count(" succeeded in ")


def test_a_worker_is_killed_in_the_middle_of_a_night(checkout: Path, tmp_path: Path) -> None:
    require_databases()
    source, restored, scratch = tmp_path / "source", tmp_path / "restored", tmp_path / "server"
    make_source(source)
    scratch.mkdir()
    with running("ministack", scratch) as server:
        server.make_bucket("many")
        write_policy(checkout, source, server)
        connection = {
            "conn_type": "aws",
            "login": server.credentials["AWS_ACCESS_KEY_ID"],
            "password": server.credentials["AWS_SECRET_ACCESS_KEY"],
            "extra": {"region_name": server.region, "passphrase": "of many"},
        }
        environ = {**os.environ, **server.credentials, "AIRFLOW_CONN_STORE": json.dumps(connection)}
        (tmp_path / "pass").write_text("of many")
        flags = ["--repo", "s3://many/night", "--endpoint-url", server.endpoint_url]
        flags += ["--passphrase-file", str(tmp_path / "pass")]

        def moraine(*arguments: str) -> None:
            subprocess.run([checkout / "moraine", *arguments, *flags], env=environ, check=True)

        moraine("repo", "init")
        with up(checkout, environ) as many:
            drive_the_night(many)
        moraine("restore", "latest", "--to", str(restored))
        moraine("check", "--read-data")
    assert compare_trees(source, restored) == []


def drive_the_night(many: Set) -> None:
    until(lambda: many.ask("/api/v2/dags?limit=50")["total_entries"] >= 3, 120, "the DAGs are parsed")
    run = many.ask("/api/v2/dags/backup__many/dagRuns", {"logical_date": None})["dag_run_id"]

    def in_the_middle() -> bool:
        """Three at once: of two workers with two places each, both have one."""
        states = [task["state"] for task in many.copies(run)]
        assert many.state(run) in ("queued", "running")
        return states.count("success") >= 2 and states.count("running") >= 3

    until(in_the_middle, 240, "copies run on both workers")
    kill_tree(many.processes()["worker-1"])
    before = worked(many, "worker-2")
    state = until(lambda: many.state(run) in ("success", "failed") and many.state(run), 420, "the run ends")
    copies = many.copies(run)
    assert state == "success"
    assert len(copies) >= FILES // SHARD
    assert {task["state"] for task in copies} == {"success"}
    assert max(task["try_number"] for task in copies) >= 2  # what the killed worker had was done again
    assert min(task["try_number"] for task in copies) == 1  # and only that
    assert worked(many, "worker-1") > 0 and worked(many, "worker-2") > before
    waiting = "/api/v2/dags/after_backup__many/dagRuns"
    until(
        lambda: [run["state"] for run in many.ask(waiting)["dag_runs"]] == ["success"], 120, "the waiting DAG runs once"
    )
