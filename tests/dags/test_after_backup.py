"""The sample consumer: what it waits for and reads. That a commit starts it, the test of many workers shows."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from airflow.models.asset import AssetEvent, AssetModel
from airflow.utils.session import create_session
from sqlalchemy import select

from airflow_runs import run
from moraine.steps.init import init_repository
from moraine.stores.open import open_store
from moraine.workflows import after_backup
from moraine.workflows.assets import snapshot_asset
from moraine.workflows.backup import build_backup_dag
from moraine.workflows.policies import find_policy


def test_it_waits_for_the_snapshots_of_one_policy() -> None:
    dag = after_backup.build_after_backup_dag("lake")
    assert dag.dag_id == "after_backup__lake"
    assert [one.name for one in dag.timetable.asset_condition.objects] == [snapshot_asset("lake").name]


def test_it_reads_what_a_real_commit_says(
    policies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url, source = str(tmp_path / "repository"), tmp_path / "source"
    init_repository(open_store(url), None, clock=lambda: datetime.now(UTC), entropy=os.urandom)
    source.mkdir()
    (source / "file").write_bytes(os.urandom(3 << 10))
    policy = {"policy": "told", "source": {"path": str(source)}, "repository": {"url": url}}
    (policies / "told.yaml").write_text(yaml.safe_dump(policy))
    assert str(run(build_backup_dag(find_policy("told"))).state) == "success"
    with create_session() as session:
        asset = select(AssetModel.id).where(AssetModel.name == snapshot_asset("told").name)
        (event,) = session.scalars(select(AssetEvent).where(AssetEvent.asset_id.in_(asset)))
        extra = event.extra
    assert set(extra) == {"snapshot", "window", "bytes", "added", "digest"}
    context = {"triggering_asset_events": {snapshot_asset("told"): [SimpleNamespace(extra=extra)]}}
    monkeypatch.setattr(after_backup, "get_current_context", lambda: context)
    with caplog.at_level("INFO", logger="moraine"):
        after_backup.report("told")
    said = f"snapshot {extra['snapshot']}, window to {extra['window']['end']}: 3.0 KiB, 3.0 KiB of it new"
    assert said in caplog.text


def test_it_says_what_every_snapshot_holds_that_came_meanwhile(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    window = {"start": "2026-11-20T02:00:00Z", "end": "2026-11-21T02:00:00Z"}
    extras = [{"snapshot": name, "window": window, "bytes": 3 << 20, "added": 1 << 20, "digest": "d"} for name in "ab"]
    events = [SimpleNamespace(extra=extra) for extra in extras]
    context = {"triggering_asset_events": {snapshot_asset("lake"): events}}
    monkeypatch.setattr(after_backup, "get_current_context", lambda: context)
    with caplog.at_level("INFO", logger="moraine"):
        assert after_backup.report("lake") == extras
    assert "snapshot b, window to 2026-11-21T02:00:00Z: 3.0 MiB, 1.0 MiB of it new" in caplog.text
