"""The sample consumer: what it waits for and reads. That a commit starts it, the test of many workers shows."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from moraine.workflows import after_backup
from moraine.workflows.assets import snapshot_asset


def test_it_waits_for_the_snapshots_of_one_policy() -> None:
    dag = after_backup.build_after_backup_dag("lake")
    assert dag.dag_id == "after_backup__lake"
    assert [one.name for one in dag.timetable.asset_condition.objects] == [snapshot_asset("lake").name]


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
