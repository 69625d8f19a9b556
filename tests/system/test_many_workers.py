"""`./moraine many`: a night over several workers, one of which is killed in the middle."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_set import PROMPT, AirflowSet, kill_tree, until, up
from compare import compare_trees
from servers import S3Server, running

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(900)]

TOLD = [*PROMPT, "scheduler.task_queued_timeout=60", "scheduler.task_queued_timeout_check_interval=15"]
FILES, SHARD = 48, 4


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
def many_up(checkout: Path, environ: dict[str, str]) -> Iterator[AirflowSet]:
    from moraine.workflows.databases import PostgreSQL

    home = checkout / ".airflow/many"
    try:
        with up(AirflowSet(checkout, home, environ), "many", TOLD) as many:
            yield many
    finally:
        PostgreSQL.of(home, 0).remove()


def copies(many: AirflowSet, run: str) -> list[dict[str, Any]]:
    return [task for name, task in many.tasks("backup__many", run).items() if name.startswith("copy[")]


def worked(many: AirflowSet, worker: str) -> int:
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
        with many_up(checkout, environ) as many:
            drive_the_night(many)
        moraine("restore", "latest", "--to", str(restored))
        moraine("check", "--read-data")
    assert compare_trees(source, restored) == []


def drive_the_night(many: AirflowSet) -> None:
    until(lambda: many.ask("/api/v2/dags?limit=50")["total_entries"] >= 3, 120, "the DAGs are parsed")
    run = many.start("backup__many")

    def in_the_middle() -> bool:
        """Three at once: of two workers with two places each, both have one."""
        states = [task["state"] for task in copies(many, run)]
        assert many.state("backup__many", run) in ("queued", "running")
        return states.count("success") >= 2 and states.count("running") >= 3

    until(in_the_middle, 240, "copies run on both workers")
    kill_tree(many.processes()["worker-1"])
    before = worked(many, "worker-2")
    state = until(
        lambda: many.state("backup__many", run) in ("success", "failed") and many.state("backup__many", run),
        420,
        "the run ends",
    )
    copied = copies(many, run)
    assert state == "success"
    assert len(copied) >= FILES // SHARD
    assert {task["state"] for task in copied} == {"success"}
    assert max(task["try_number"] for task in copied) >= 2  # what the killed worker had was done again
    assert min(task["try_number"] for task in copied) == 1  # and only that
    assert worked(many, "worker-1") > 0 and worked(many, "worker-2") > before
    waiting = "/api/v2/dags/after_backup__many/dagRuns"
    until(
        lambda: [run["state"] for run in many.ask(waiting)["dag_runs"]] == ["success"], 120, "the waiting DAG runs once"
    )
