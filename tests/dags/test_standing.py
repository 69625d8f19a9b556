"""Which window a run stands for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.api.datamodels._generated import DagRunType

from moraine.errors import SourceError
from moraine.model.log import LogState
from moraine.model.policy import Policy
from moraine.model.window import Window
from moraine.workflows import task_context
from moraine.workflows.task_context import standing

DAY = timedelta(days=1)
START = datetime(2026, 11, 1, 2, tzinfo=UTC)
END = START + DAY


def policy(late: str = "capture") -> Policy:
    return Policy.model_validate(
        {
            "policy": "p",
            "source": {"path": "/s"},
            "repository": {"url": "/r"},
            "schedule": {"cron": "0 2 * * *", "late": late},
        }
    )


@pytest.fixture
def in_run(monkeypatch: pytest.MonkeyPatch) -> Any:
    def of(run_type: str, start: datetime | None = START, end: datetime | None = END) -> None:
        run = SimpleNamespace(run_type=DagRunType(run_type), data_interval_start=start, data_interval_end=end)
        monkeypatch.setattr(task_context, "get_current_context", lambda: {"dag_run": run})

    return of


def with_snapshot(end: datetime, captured_at: datetime) -> LogState:
    state = LogState()
    record: Any = SimpleNamespace(id="S", policy="p", window=Window(end - DAY, end), captured_at=captured_at)
    state.snapshots["S"] = record
    return state


def test_a_scheduled_run_stands_for_its_interval(in_run: Any) -> None:
    in_run("scheduled")
    found = standing(policy(), LogState(), END + timedelta(hours=3))
    assert found.window == Window(START, END)
    assert not found.late


def test_a_late_run_stands_for_everything_up_to_now(in_run: Any) -> None:
    in_run("backfill")
    now = END + 5 * DAY
    found = standing(policy(), with_snapshot(START, captured_at=START), now)
    assert found.window == Window(START, now)
    assert found.late
    assert found.covered_by is None


def test_a_later_window_of_the_same_backfill_is_covered(in_run: Any) -> None:
    in_run("backfill", START + DAY, END + DAY)
    now = END + 5 * DAY
    found = standing(policy(), with_snapshot(now, captured_at=now), now + timedelta(minutes=1))
    assert found.covered_by is not None
    assert found.covered_by.id == "S"


def test_a_late_run_fails_where_the_policy_says_so(in_run: Any) -> None:
    in_run("scheduled")
    with pytest.raises(SourceError, match="was over long before"):
        standing(policy("fail"), LogState(), END + 2 * DAY)


@pytest.mark.parametrize("run_type", ["manual", "asset_triggered"])
def test_other_runs_stand_for_the_time_since_the_last_snapshot(in_run: Any, run_type: str) -> None:
    in_run(run_type)
    now = END + timedelta(hours=5)
    assert standing(policy(), LogState(), now).window == Window(now, now)
    assert standing(policy(), with_snapshot(END, captured_at=END), now).window == Window(END, now)


def test_a_run_without_an_interval_stands_for_now(in_run: Any) -> None:
    in_run("scheduled", None, None)
    assert standing(policy(), LogState(), END).window == Window(END, END)
