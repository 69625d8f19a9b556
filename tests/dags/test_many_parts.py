"""What a deployment of several workers makes before its first start: pools, and the demo's store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from airflow.models.connection import Connection
from airflow.models.pool import Pool
from airflow.utils.session import create_session
from sqlalchemy import select

from moraine.model.policy_file import load_policy
from moraine.repository.repository import Repository
from moraine.stores.open import open_store
from moraine.workflows import demo_seed
from moraine.workflows.pools import POOLS, READ, make_pools
from servers import running

ROOT = Path(__file__).resolve().parents[2]


def test_pools_are_made_once_and_keep_what_an_operator_chose() -> None:
    with create_session() as session:
        for pool in POOLS:
            if row := Pool.get_pool(pool.name, session=session):
                session.delete(row)
    assert make_pools() == [pool.name for pool in POOLS]
    with create_session() as session:
        Pool.create_or_update_pool(READ.name, 3, "fewer", False, session=session)
    assert make_pools() == []
    with create_session() as session:
        slots = {pool.name: Pool.get_pool(pool.name, session=session).slots for pool in POOLS}
    assert slots == {"backup_read": 3, "backup_write": 8, "restore": 8}


@pytest.mark.slow
def test_the_demo_is_seeded_as_often_as_it_is_asked_to(tmp_path: Path) -> None:
    with running("ministack", tmp_path) as server:
        environ = {
            "DEMO_LAKE": str(tmp_path / "lake"),
            "DEMO_STORE_URL": "s3://demo/moraine",
            "DEMO_STORE_ENDPOINT": server.endpoint_url,
            "DEMO_STORE_KEY": server.credentials["AWS_ACCESS_KEY_ID"],
            "DEMO_STORE_SECRET": server.credentials["AWS_SECRET_ACCESS_KEY"],
            "DEMO_PASSPHRASE": "of the demo",
        }
        assert demo_seed.seed(environ) == [f"data lake {tmp_path / 'lake'}", "repository s3://demo/moraine"]
        assert demo_seed.seed(environ) == []
        store = open_store("s3://demo/moraine", endpoint_url=server.endpoint_url, session=server.session())
        assert Repository.open(store, lambda: b"of the demo", entropy=os.urandom).config.encrypted
    with create_session() as session:
        rows = session.scalars(select(Connection).where(Connection.conn_id == demo_seed.CONNECTION)).all()
        assert [row.extra_dejson["passphrase"] for row in rows] == ["of the demo"]


def test_the_demo_policy_means_what_the_compose_file_seeds() -> None:
    policy = load_policy(ROOT / "include/moraine/demo/policies/demo-s3.yaml")
    assert policy.repository.connection == demo_seed.CONNECTION
    compose = (ROOT / "docker-compose.yaml").read_text()
    for line in (policy.repository.url, policy.repository.endpoint_url, policy.source.path):
        assert f": {line}\n" in compose
