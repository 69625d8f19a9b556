"""A mirror in a bucket whose credentials and endpoint come from an Airflow connection, and from nowhere else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from airflow_runs import run, states
from moraine.model.policy_mirror import STATE
from moraine.workflows.backup import build_backup_dag
from moraine.workflows.policies import find_policy
from moraine.workflows.restore import build_restore_dag
from servers import S3Server

Place = tuple[S3Server, str]


@pytest.fixture(params=["moto", pytest.param("ministack", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest, s3_bucket: Callable[[str], Place], monkeypatch: pytest.MonkeyPatch) -> Place:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    server, bucket = s3_bucket(request.param)
    connect(monkeypatch, server, server.endpoint_url)
    return server, bucket


def connect(monkeypatch: pytest.MonkeyPatch, server: S3Server, endpoint_url: str) -> None:
    connection = {
        "conn_type": "aws",
        "login": server.credentials["AWS_ACCESS_KEY_ID"],
        "password": server.credentials["AWS_SECRET_ACCESS_KEY"],
        "extra": {"endpoint_url": endpoint_url, "region_name": server.region},
    }
    monkeypatch.setenv("AIRFLOW_CONN_STANDBY", json.dumps(connection))


def kept(server: S3Server, bucket: str) -> dict[str, bytes]:
    found = {}
    for item in server.client.list_objects_v2(Bucket=bucket, Prefix="standby/")["Contents"]:
        key = item["Key"].removeprefix("standby/")
        if not key.startswith(STATE):
            found[key] = server.client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
    return found


def policy_of(source: Path, bucket: str, policies: Path) -> None:
    policy = {
        "policy": "standby",
        "source": {"path": str(source)},
        "destination": {"kind": "mirror", "url": f"s3://{bucket}/standby", "connection": "standby"},
        "gate": {"min_files_for_shares": 100},
    }
    (policies / "standby.yaml").write_text(yaml.safe_dump(policy))


def test_nights_and_a_restore(place: Place, policies: Path, tmp_path: Path) -> None:
    server, bucket = place
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub/file").write_text("first")
    (source / "gone").write_text("gone")
    policy_of(source, bucket, policies)
    assert set(states(run(build_backup_dag(find_policy("standby")))).values()) == {"success 1"}
    (source / "sub/file").write_text("second!")
    (source / "gone").unlink()
    assert set(states(run(build_backup_dag(find_policy("standby")))).values()) == {"success 1"}
    assert kept(server, bucket) == {"sub/file": b"second!"}
    form = {"policy": "standby", "target": str(tmp_path / "back"), "dry_run": False}
    assert set(states(run(build_restore_dag(["standby"]), form)).values()) == {"success 1"}
    assert (tmp_path / "back/sub/file").read_text() == "second!"
    assert not (tmp_path / "back/gone").exists()
