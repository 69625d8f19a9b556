"""The restore DAG with a target in S3: credentials and endpoint come from a connection."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from airflow_runs import run, states
from buckets import expected_of_tree, objects, of_tree
from moraine.repository import key_slots
from moraine.steps.init import init_repository
from moraine.stores.open import open_store
from moraine.workflows.backup import build_backup_dag
from moraine.workflows.connections import open_repository
from moraine.workflows.policies import find_policy
from moraine.workflows.restore import build_restore_dag
from servers import S3Server


@pytest.mark.parametrize("kind", ["s3", "posix"])
def test_a_restore_into_a_bucket(
    s3_bucket: Callable[[str], tuple[S3Server, str]],
    policies: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    monkeypatch.setitem(key_slots.SCRYPT, "n", 1 << 4)
    open_repository.cache_clear()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    server, bucket = s3_bucket("moto")
    connection = {
        "conn_type": "aws",
        "login": server.credentials["AWS_ACCESS_KEY_ID"],
        "password": server.credentials["AWS_SECRET_ACCESS_KEY"],
        "extra": {"endpoint_url": server.endpoint_url, "region_name": server.region},
    }
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps(connection))
    for key in ("raw/a//b", "raw/c", "raw/c/d"):
        server.client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/file").write_text("content")
    url, secret = str(tmp_path / "repository"), tmp_path / "secret"
    secret.write_text("a passphrase")
    init_repository(open_store(url), lambda: b"a passphrase", clock=lambda: datetime.now(UTC), entropy=os.urandom)
    sources = {
        "s3": {"kind": "s3", "bucket": bucket, "prefix": "raw", "connection": "lake"},
        "posix": {"path": str(tmp_path / "tree")},
    }
    policy = {
        "policy": "lake",
        "source": sources[kind],
        "repository": {"url": url, "passphrase_file": str(secret)},
        "gate": {"min_files_for_shares": 100},
    }
    (policies / "lake.yaml").write_text(yaml.safe_dump(policy))
    assert set(states(run(build_backup_dag(find_policy("lake")))).values()) == {"success 1"}

    form = {"policy": "lake", "target": f"s3://{bucket}/back", "target_connection": "lake", "dry_run": False}
    assert set(states(run(build_restore_dag(["lake"]), form)).values()) == {"success 1"}
    if kind == "s3":
        assert objects(server.client, bucket, "back/") == objects(server.client, bucket, "raw/")
    else:
        assert of_tree(server.client, bucket, "back/") == expected_of_tree(tmp_path / "tree")
