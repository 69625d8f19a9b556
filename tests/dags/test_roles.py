"""One AWS connection with a role: a night and a restore while its credentials expire, and no secret in sight."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import select

from airflow_runs import run, states
from expiring import Door, expiring
from moraine.errors import AccessDenied, ConfigError
from moraine.model.policy_fields import RepositoryAddress
from moraine.repository import key_slots
from moraine.steps.init import init_repository
from moraine.stores.open import open_store
from moraine.workflows.aws_connection import read_aws_connection
from moraine.workflows.backup import build_backup_dag
from moraine.workflows.connections import open_repository
from moraine.workflows.policies import find_policy
from moraine.workflows.restore import build_restore_dag
from servers import S3Server

Bucket = Callable[[str], tuple[S3Server, str]]
SECRETS = {"password": "a-secret-key-of-the-user", "passphrase": "the-passphrase-in-the-extras"}


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(key_slots.SCRYPT, "n", 1 << 4)
    open_repository.cache_clear()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def door(s3_bucket: Bucket) -> Iterator[tuple[Door, str]]:
    server, bucket = s3_bucket("moto")
    made = open_store(f"s3://{bucket}/nights", endpoint_url=server.endpoint_url, session=server.session())
    secret = SECRETS["passphrase"].encode()
    init_repository(made, lambda: secret, clock=lambda: datetime.now(UTC), entropy=os.urandom)
    with expiring(server, requests=11) as door:
        yield door, bucket


def connect(door: Door, monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
    extra = {
        "role_arn": "arn:aws:iam::123456789012:role/backup",
        "endpoint_url": door.endpoint_url,
        "service_config": {"sts": {"endpoint_url": door.endpoint_url}},
        "region_name": "us-east-1",
        "passphrase": SECRETS["passphrase"],
        **more,
    }
    connection = {"conn_type": "aws", "login": "user", "password": SECRETS["password"], "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps(connection))


@pytest.mark.slow
def test_a_night_and_a_restore_outlive_their_credentials(
    door: tuple[Door, str],
    policies: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    at, bucket = door
    connect(at, monkeypatch, config_kwargs={"retries": {"mode": "standard"}}, shade="green")
    source = tmp_path / "source"
    for number in range(15):
        (source / f"d{number % 3}").mkdir(parents=True, exist_ok=True)
        (source / f"d{number % 3}/f{number}").write_bytes(os.urandom(30_000 + number))
    policy = {
        "policy": "roles",
        "source": {"path": str(source)},
        "repository": {"url": f"s3://{bucket}/nights", "connection": "lake"},
        "shards": {"copy_files": 4},
    }
    (policies / "roles.yaml").write_text(yaml.safe_dump(policy))
    with caplog.at_level(logging.DEBUG):
        night = run(build_backup_dag(find_policy("roles")))
        assert {state.split()[0] for state in states(night).values()} == {"success"}
        form = {"policy": "roles", "target": str(tmp_path / "out"), "dry_run": False}
        back = run(build_restore_dag(["roles"]), conf=form)
        assert {state.split()[0] for state in states(back).values()} == {"success"}
    assert contents(tmp_path / "out") == contents(source)
    assert len(at.issued) > 5
    assert max(at.served.values()) == 11
    assert sum(at.refused.values()) >= 4
    said = caplog.text + "".join(capfd.readouterr()) + stored()
    assert "connection lake: these extras mean nothing to Moraine: config_kwargs, shade" in said
    assert "green" not in said
    for secret in SECRETS.values():
        assert secret not in said
    assert not re.search("|".join(map(re.escape, at.secrets)), said)
    assert at.secrets


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def stored() -> str:
    """All XComs and rendered templates of this database."""
    with create_session() as session:
        values = [str(one.value) for one in session.scalars(select(XComModel))]
        fields = [str(one.rendered_fields) for one in session.scalars(select(RenderedTaskInstanceFields))]
    assert values
    return "\n".join(values + fields)


def test_what_a_connection_may_say(monkeypatch: pytest.MonkeyPatch) -> None:
    def place(**connection: Any) -> Any:
        monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps(connection))
        return read_aws_connection("lake")

    keys = {"login": "key", "password": "secret"}
    own = {"service_config": {"s3": {"endpoint_url": "http://s3"}}, "endpoint_url": "http://all", "verify": "/ca.pem"}
    found = place(conn_type="aws", **keys, extra=own)
    assert (found.endpoint_url, found.region, dict(found.environ)) == ("http://s3", None, {"AWS_CA_BUNDLE": "/ca.pem"})
    assert place(conn_type="aws", extra={"endpoint_url": "http://all"}).endpoint_url == "http://all"
    with pytest.raises(ConfigError, match="check of certificates off"):
        place(conn_type="aws", **keys, extra={"verify": False})
    with pytest.raises(ConfigError, match="type 'postgres'"):
        place(conn_type="postgres", **keys)
    with pytest.raises(ConfigError, match="no Airflow connection 'sea'"):
        read_aws_connection("sea")


def test_a_role_that_is_not_given_says_so(door: tuple[Door, str], monkeypatch: pytest.MonkeyPatch) -> None:
    at, bucket = door
    connect(at, monkeypatch)
    at.closed = True
    with pytest.raises(AccessDenied, match=r"connection lake: no credentials: .*AssumeRole") as caught:
        open_repository(RepositoryAddress(url=f"s3://{bucket}/nights", connection="lake"))
    assert SECRETS["password"] not in caught.value.line()


def test_the_keys_of_a_role_are_masked(door: tuple[Door, str], monkeypatch: pytest.MonkeyPatch) -> None:
    at, _ = door
    connect(at, monkeypatch)
    masked: list[str] = []
    monkeypatch.setattr("moraine.workflows.aws_connection.mask_secret", masked.append)
    read_aws_connection("lake").session()
    assert set(masked) == set(at.secrets)
