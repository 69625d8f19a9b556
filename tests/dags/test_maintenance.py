"""The DAG that sweeps repositories without anybody remembering."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from airflow_runs import run, states
from moraine.stores.local import LocalStore
from moraine.workflows.connections import open_repository
from moraine.workflows.maintenance import build_maintenance_dag
from moraine.workflows.policies import read_policies
from night import PASSPHRASE, Clock, Night, make_policy, make_repository


def left(place: Path) -> list[Path]:
    """Packs and working files, which a repository without any snapshot has only from runs that did not end."""
    return [path for name in ("packs", "sessions") for path in (place / name).rglob("*") if path.is_file()]


def test_what_a_run_left_long_ago_goes_once_per_repository(
    tmp_path: Path, policies: Path, caplog: pytest.LogCaptureFixture
) -> None:
    open_repository.cache_clear()
    (tmp_path / "passphrase").write_bytes(PASSPHRASE)
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_bytes(os.urandom(100_000))
    for name, at in (("one", "shared"), ("two", "shared/"), ("three", "young")):
        store = LocalStore(tmp_path / at)
        clock = Clock(datetime.now(UTC) - timedelta(days=20 if at != "young" else 1))
        if name != "two":
            make_repository(store, clock)
        night = Night(
            lambda store=store: store, tmp_path / "source", make_policy(tmp_path / "source", name), clock, name
        )  # type: ignore[misc]
        for step in ("open", "list", "diff", "copy"):
            night.step(step)
        parts = {
            "policy": name,
            "source": {"path": str(tmp_path / "source")},
            "repository": {"url": f"{tmp_path}/{at}", "passphrase_file": str(tmp_path / "passphrase")},
        }
        (policies / f"{name}.yaml").write_text(yaml.safe_dump(parts))
    long_ago = (datetime.now(UTC) - timedelta(days=20)).timestamp()
    for path in left(tmp_path / "shared"):
        os.utime(path, (long_ago, long_ago))
    before, young = left(tmp_path / "shared"), left(tmp_path / "young")
    assert any("packs" in path.parts for path in before)
    found, broken = read_policies()
    dag = build_maintenance_dag(found)
    assert dag is not None and not broken
    with caplog.at_level("INFO", logger="moraine"):
        assert states(run(dag, {"dry_run": True})) == {"sweep[0]": "success 1", "sweep[1]": "success 1"}
    assert left(tmp_path / "shared") == before
    assert "would be removed (dry run); 2 open runs given up" in caplog.text
    assert states(run(build_maintenance_dag(found))) == {"sweep[0]": "success 1", "sweep[1]": "success 1"}
    assert left(tmp_path / "shared") == []
    assert left(tmp_path / "young") == young, "a run of yesterday may still be gone on with"
    assert "abandoned: stale" in caplog.text


def test_without_a_policy_there_is_nothing_to_look_after(policies: Path) -> None:
    assert build_maintenance_dag([]) is None
