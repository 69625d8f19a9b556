"""The DAG and the verb that test where snapshots would go."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from airflow_runs import run, states
from moraine.cli.main import main
from moraine.repository import key_slots
from moraine.steps.init import init_repository
from moraine.stores import open as opening
from moraine.stores.base import Buffer
from moraine.stores.memory import MemoryStore
from moraine.stores.open import open_store
from moraine.workflows.connections import open_repository
from moraine.workflows.probe import build_probe_dag
from servers import S3Server


class Careless(MemoryStore):
    """Replaces what is there, like a server that ignores If-None-Match."""

    def put(self, key: str, data: Buffer) -> None:
        self.delete(key)
        super().put(key, data)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(key_slots.SCRYPT, "n", 1 << 4)
    open_repository.cache_clear()


@pytest.fixture
def careless(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(opening._memory, "careless", Careless("careless"))
    return "memory://careless"


def test_an_address_with_a_connection(
    s3_bucket: Callable[[str], tuple[S3Server, str]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server, bucket = s3_bucket("moto")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    extra = {"endpoint_url": server.endpoint_url, "region_name": server.region}
    connection = {"conn_type": "aws", "login": "key", "password": "secret", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps(connection))
    with caplog.at_level("INFO", logger="moraine"):
        ended = run(build_probe_dag([]), conf={"url": f"s3://{bucket}/nights", "connection": "lake"})
    assert states(ended) == {"probe": "success 1"}
    said = [record.getMessage() for record in caplog.records if record.name == "moraine"]
    assert sum(line.startswith("yes ") for line in said) == 7
    assert f"s3://{bucket}/nights can hold a repository; no repository is there yet" in said
    assert list(server.client.list_objects_v2(Bucket=bucket).get("Contents", ())) == []


def test_a_policy_and_its_passphrase(policies: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    url, secret = str(tmp_path / "repository"), tmp_path / "secret"
    secret.write_text("a passphrase")
    init_repository(open_store(url), lambda: b"a passphrase", clock=lambda: datetime.now(UTC), entropy=os.urandom)
    policy = {
        "policy": "here",
        "source": {"path": "/nowhere"},
        "repository": {"url": url, "passphrase_file": str(secret)},
    }
    (policies / "here.yaml").write_text(yaml.safe_dump(policy))
    with caplog.at_level("INFO", logger="moraine"):
        ended = run(build_probe_dag(["here"]), conf={"policy": "here"})
    assert states(ended) == {"probe": "success 1"}
    assert "the passphrase opens it" in caplog.text
    secret.write_text("another")
    open_repository.cache_clear()
    assert states(run(build_probe_dag(["here"]), conf={"policy": "here"})) == {"probe": "failed 1"}


def test_a_store_that_is_not_fit(careless: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="moraine"):
        ended = run(build_probe_dag([]), conf={"url": careless})
    assert states(ended) == {"probe": "failed 1"}  # trying again would not help
    assert "NO   an object that is there is never replaced by a put (If-None-Match: *)" in caplog.text
    assert "NO   of several puts of one key at the same moment exactly one is accepted" in caplog.text
    assert f"{careless} cannot hold a repository" in caplog.text


@pytest.mark.parametrize("conf", [{}, {"policy": "x", "url": "memory://y"}])
def test_a_form_that_says_nothing_or_too_much(conf: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    assert states(run(build_probe_dag([]), conf=conf)) == {"probe": "failed 1"}
    assert "say either a policy or an address" in caplog.text


def test_the_verb(careless: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["repo", "probe", str(tmp_path / "new")]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line[:4] for line in lines[:6]] == ["yes "] * 6
    assert lines[-1] == f"{tmp_path / 'new'} can hold a repository; no repository is there yet"
    assert main(["repo", "probe", careless, "--json"]) == 34
    out, err = capfd.readouterr()
    found = json.loads(out)
    assert (found["store"], found["fit"], found["can"]["create_only"], found["can"]["range_reads"]) == (
        careless, False, False, True,
    )  # fmt: skip
    assert json.loads(err)["code"] == "store-unfit"
