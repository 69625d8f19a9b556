"""A backfill over missed nights of a bucket that keeps versions, through Airflow: each night as it was, exactly."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import moto.s3.models
import pytest
import yaml
from airflow.sdk import DAG
from moto.server import ThreadedMotoServer

from airflow_runs import run, states
from moraine.model.window import Window
from moraine.report.coverage import coverage
from moraine.repository import key_slots
from moraine.repository.repository import Repository
from moraine.steps.init import init_repository
from moraine.stores.local import LocalStore
from moraine.workflows import task_context
from moraine.workflows.backup import build_backup_dag
from moraine.workflows.connections import open_repository
from moraine.workflows.policies import find_policy
from restored import restore
from servers import CREDENTIALS, free_port

pytestmark = pytest.mark.slow

DAY = timedelta(days=1)
BUCKET = "lake"


@dataclass
class Lake:
    """A bucket whose past is written with the dates that a test wants."""

    client: Any
    endpoint_url: str
    folder: Path
    monkeypatch: pytest.MonkeyPatch
    body: dict[str, bytes] = field(default_factory=dict)

    def at(self, when: datetime) -> None:
        """What is put or deleted from here on is of this time."""
        self.monkeypatch.setattr(moto.s3.models, "utcnow", lambda: when.astimezone(UTC).replace(tzinfo=None))

    def put(self, key: str, body: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=body)
        self.body[key] = body

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=BUCKET, Key=key)
        del self.body[key]

    @property
    def repository(self) -> Repository:
        return Repository.open(LocalStore(self.folder / "repository"), lambda: b"secret", entropy=os.urandom)

    def dag(self, policies: Path, **parts: Any) -> DAG:
        policy = {
            "policy": "lake",
            "source": {"kind": "s3", "bucket": BUCKET, "endpoint_url": self.endpoint_url, "history": True},
            "repository": {"url": str(self.folder / "repository"), "passphrase_file": str(self.folder / "passphrase")},
            "schedule": {"cron": "0 2 * * *", **parts},
        }
        (policies / "lake.yaml").write_text(yaml.safe_dump(policy))
        return build_backup_dag(find_policy("lake"))

    def backfill(self, dag: DAG, start: datetime) -> dict[str, str]:
        """The run of a backfill that Airflow makes for the window that begins at `start`."""
        night = SimpleNamespace(
            run_type="backfill", dag_id="d", run_id=str(start), data_interval_start=start, data_interval_end=start + DAY
        )
        real = task_context.get_current_context
        with self.monkeypatch.context() as patch:
            patch.setattr(task_context, "get_current_context", lambda: {**real(), "dag_run": night})
            return states(run(dag))

    def restored(self, snapshot: str, name: str) -> dict[str, bytes]:
        restore(self.repository, snapshot, out := self.folder / name)
        return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lake]:
    monkeypatch.setitem(key_slots.SCRYPT, "n", 1 << 4)
    open_repository.cache_clear()
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "passphrase").write_bytes(b"secret\n")
    init_repository(
        LocalStore(tmp_path / "repository"),
        passphrase=lambda: b"secret",
        clock=lambda: datetime.now(UTC),
        entropy=os.urandom,
    )
    server = ThreadedMotoServer("127.0.0.1", port := free_port(), verbose=False)
    server.start()
    endpoint_url = f"http://127.0.0.1:{port}"
    client = boto3.client("s3", endpoint_url=endpoint_url)
    client.create_bucket(Bucket=BUCKET)
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    yield Lake(client, endpoint_url, tmp_path, monkeypatch)
    client.close()
    server.stop()
    for backend in list(moto.s3.models.s3_backends.values()):  # this process's, shared by all servers
        backend.reset()


def test_a_backfill_gives_each_missed_night_what_was_there(lake: Lake, policies: Path) -> None:
    first = datetime.now(UTC).replace(hour=2, minute=0, second=0, microsecond=0) - 5 * DAY
    windows = [Window(first + number * DAY, first + (number + 1) * DAY) for number in range(3)]
    lake.at(first + timedelta(hours=1))
    lake.put("orders/1", b"one")
    lake.put("orders/2", b"two")
    lake.at(windows[0].end - timedelta(milliseconds=1))
    lake.put("orders/3", b"just in time")
    held = [dict(lake.body)]
    lake.at(windows[0].end)
    lake.put("orders/1", b"one, second edition")
    lake.at(windows[0].end + timedelta(hours=3))
    lake.delete("orders/2")
    held.append(dict(lake.body))
    lake.at(windows[1].end + timedelta(hours=3))
    lake.put("orders/1", b"one, third edition")
    lake.put("orders/2", b"two again")
    held.append(dict(lake.body))
    lake.at(windows[2].end + timedelta(minutes=1))
    for key in list(lake.body):
        lake.delete(key)
    lake.put("after", b"everything")

    dag = lake.dag(policies, start=f"{first:%Y-%m-%d}")
    for window in (windows[1], windows[0], windows[2]):  # in any order
        assert {state.split()[0] for state in lake.backfill(dag, window.start).values()} == {"success"}

    found = {record.window: record for record in lake.repository.state.live()}
    assert sorted(found, key=lambda window: window.end) == windows
    for number, window in enumerate(windows):
        assert lake.restored(found[window].id, f"night {number}") == held[number]
    report = coverage(lake.repository, find_policy("lake"), now=datetime.now(UTC), start=first)
    assert [(str(item.state), item.snapshot) for item in report.windows[:4]] == [
        *(("on_time", found[window].id) for window in windows),
        ("missed", None),
    ]
    assert {item.reason for item in report.windows[:3]} == {
        "captured later as of its end, from the source's history",
    }

    assert lake.backfill(dag, windows[0].start)["open"] == "skipped 1", "it has its snapshot"
    assert len(lake.repository.state.live()) == 3


def test_a_night_whose_history_is_cut_is_captured_late_or_fails_as_the_policy_says(lake: Lake, policies: Path) -> None:
    first = datetime.now(UTC).replace(hour=2, minute=0, second=0, microsecond=0) - 6 * DAY
    lake.at(first + timedelta(hours=1))
    lake.put("a", b"old")
    lake.at(first + timedelta(days=4))
    lake.put("a", b"new")
    lake.client.put_bucket_lifecycle_configuration(
        Bucket=BUCKET,
        LifecycleConfiguration={
            "Rules": [
                {
                    "ID": "expire",
                    "Status": "Enabled",
                    "Filter": {"Prefix": ""},
                    "NoncurrentVersionExpiration": {"NoncurrentDays": 4},
                }
            ]
        },
    )
    assert lake.backfill(lake.dag(policies, late="fail"), first)["open"].startswith("failed")
    dag = lake.dag(policies, start=f"{first:%Y-%m-%d}")
    exact = lake.backfill(dag, first + 2 * DAY)
    assert {state.split()[0] for state in exact.values()} == {"success"}
    late = lake.backfill(dag, first)
    assert {state.split()[0] for state in late.values()} == {"success"}
    report = coverage(lake.repository, find_policy("lake"), now=datetime.now(UTC), start=first)
    assert [str(item.state) for item in report.windows[:3]] == ["late", "late", "on_time"]
    by_state = {str(item.state): str(item.snapshot) for item in report.windows[:3]}
    assert lake.restored(by_state["on_time"], "exact") == {"a": b"old"}
    assert lake.restored(by_state["late"], "late") == {"a": b"new"}
