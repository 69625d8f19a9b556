"""Repositories behind Airflow connections: credentials, endpoint and passphrase come from there, nothing else does."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from airflow_runs import run, states
from moraine.errors import ConfigError
from moraine.model.policy_fields import RepositoryAddress
from moraine.repository import key_slots
from moraine.steps.init import init_repository
from moraine.stores.open import open_store
from moraine.workflows.backup import build_backup_dag
from moraine.workflows.connections import open_repository
from moraine.workflows.policies import find_policy
from servers import S3Server

Bucket = Callable[[str], tuple[S3Server, str]]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(key_slots.SCRYPT, "n", 1 << 4)
    open_repository.cache_clear()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


def test_a_night_into_s3_through_a_connection(
    s3_bucket: Bucket, policies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, bucket = s3_bucket("moto")
    connection = {
        "conn_type": "aws",
        "login": server.credentials["AWS_ACCESS_KEY_ID"],
        "password": server.credentials["AWS_SECRET_ACCESS_KEY"],
        "extra": {"endpoint_url": server.endpoint_url, "region_name": server.region, "passphrase": "in the extras"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps(connection))
    store = open_store(f"s3://{bucket}/nights", endpoint_url=server.endpoint_url, session=server.session())
    init_repository(store, lambda: b"in the extras", clock=lambda: datetime.now(UTC), entropy=os.urandom)
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_text("content")
    policy = {
        "policy": "cloud",
        "source": {"path": str(tmp_path / "source")},
        "repository": {"url": f"s3://{bucket}/nights", "connection": "lake"},
    }
    (policies / "cloud.yaml").write_text(yaml.safe_dump(policy))
    ended = states(run(build_backup_dag(find_policy("cloud"))))
    assert set(ended.values()) == {"success 1"}


def test_a_password_is_the_passphrase_unless_it_is_an_aws_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(str(tmp_path / "repository"))
    init_repository(store, lambda: b"in the password", clock=lambda: datetime.now(UTC), entropy=os.urandom)
    address = RepositoryAddress(url=str(tmp_path / "repository"), connection="key")
    monkeypatch.setenv("AIRFLOW_CONN_KEY", json.dumps({"conn_type": "aws", "password": "in the password"}))
    with pytest.raises(ConfigError, match="names no passphrase"):
        open_repository(address)
    monkeypatch.setenv("AIRFLOW_CONN_KEY", json.dumps({"conn_type": "generic", "password": "in the password"}))
    assert open_repository(address).config.encrypted


@pytest.mark.parametrize("field", ["extra", "password"])
def test_a_generated_key_in_a_connection_is_not_stretched(
    field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> bytes:
        raise AssertionError("this is not to be stretched")

    monkeypatch.setattr(hashlib, "scrypt", refuse)
    key = key_slots.generate_key(os.urandom)
    store = open_store(str(tmp_path / "repository"))
    init_repository(store, key.encode, clock=lambda: datetime.now(UTC), entropy=os.urandom)
    address = RepositoryAddress(url=str(tmp_path / "repository"), connection="key")
    given = {"password": key} if field == "password" else {"extra": {"passphrase": f" {key}\n"}}
    monkeypatch.setenv("AIRFLOW_CONN_KEY", json.dumps({"conn_type": "generic", **given}))
    assert open_repository(address).config.encrypted
    open_repository.cache_clear()
    monkeypatch.setenv("AIRFLOW_CONN_KEY", json.dumps({"conn_type": "generic", "password": key[:-1]}))
    with pytest.raises(ConfigError, match="not a whole one"):
        open_repository(address)


def test_a_night_from_s3_through_a_connection_of_the_source(
    s3_bucket: Bucket, policies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, bucket = s3_bucket("moto")
    connection = {
        "conn_type": "aws",
        "login": server.credentials["AWS_ACCESS_KEY_ID"],
        "password": server.credentials["AWS_SECRET_ACCESS_KEY"],
        "extra": {"endpoint_url": server.endpoint_url, "region_name": server.region},
    }
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps(connection))
    for key in ("raw/a//b", "raw/c", "other"):
        server.client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    url, secret = str(tmp_path / "repository"), tmp_path / "secret"
    secret.write_text("a passphrase")
    init_repository(open_store(url), lambda: b"a passphrase", clock=lambda: datetime.now(UTC), entropy=os.urandom)
    policy = {
        "policy": "objects",
        "source": {"kind": "s3", "bucket": bucket, "prefix": "raw", "connection": "lake"},
        "repository": {"url": url, "passphrase_file": str(secret)},
    }
    (policies / "objects.yaml").write_text(yaml.safe_dump(policy))
    ended = states(run(build_backup_dag(find_policy("objects"))))
    assert set(ended.values()) == {"success 1"}
    repository = open_repository(find_policy("objects").repository)
    repository.log.refresh()
    (record,) = repository.state.live("objects")
    assert (record.source, record.files) == (f"s3://{bucket}/raw", 2)
