"""Which window a run stands for."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.api.datamodels._generated import DagRunType
from airflow.sdk.exceptions import AirflowSkipException

from moraine.errors import SourceError
from moraine.model.log import LogState, Session
from moraine.model.policy import Policy
from moraine.model.policy_file import validate_policy
from moraine.model.window import Window
from moraine.sources.posix import PosixSource
from moraine.steps.open import open_run
from moraine.steps.run import Run
from moraine.stores.memory import MemoryStore
from moraine.workflows import backup_tasks, task_context
from moraine.workflows.task_context import standing, why_not
from night import Clock, make_repository, open_repository

DAY = timedelta(days=1)
START = datetime(2026, 11, 1, 2, tzinfo=UTC)
END = START + DAY


def policy(late: str = "capture", **schedule: str) -> Policy:
    return validate_policy(
        {
            "policy": "p",
            "source": {"path": "/s"},
            "repository": {"url": "/r"},
            "schedule": {"cron": "0 2 * * *", "late": late, **schedule},
        }
    )


@pytest.fixture
def in_run(monkeypatch: pytest.MonkeyPatch) -> Any:
    def of(run_type: str, start: datetime | None = START, end: datetime | None = END, run_id: str = "own") -> None:
        run = SimpleNamespace(
            run_type=DagRunType(run_type), data_interval_start=start, data_interval_end=end, dag_id="d", run_id=run_id
        )
        monkeypatch.setattr(task_context, "get_current_context", lambda: {"dag_run": run})

    return of


def with_snapshot(end: datetime, start: datetime | None = None, *, late: bool = False) -> LogState:
    state = LogState()
    record: Any = SimpleNamespace(
        id="S", policy="p", window=Window(start or end - DAY, end), captured_at=end, late=late
    )
    state.snapshots["S"] = record
    return state


def with_session(run: str, window: Window, *, late: bool = True) -> LogState:
    state = LogState()
    state.sessions["O"] = Session("O", run, 1, "p", window, None, window.end, 0, late=late)
    return state


def test_a_scheduled_run_stands_for_its_interval(in_run: Any) -> None:
    in_run("scheduled")
    found = standing(policy(), LogState(), END + timedelta(hours=3))
    assert found.window == Window(START, END)
    assert not found.late


def test_a_late_run_stands_for_everything_since_the_last_snapshot(in_run: Any) -> None:
    in_run("backfill")
    now = END + 5 * DAY
    found = standing(policy(), with_snapshot(START - 2 * DAY), now)
    assert found.window == Window(START - 2 * DAY, now)
    assert found.late
    assert why_not(policy(), found) is None


def test_the_first_late_run_reaches_back_to_the_schedules_start(in_run: Any) -> None:
    in_run("backfill")
    now = END + 5 * DAY
    assert standing(policy(), LogState(), now).window == Window(START, now)
    found = standing(policy(start="2026-10-20"), LogState(), now)
    assert found.window == Window(datetime(2026, 10, 20, tzinfo=UTC), now)


@pytest.mark.parametrize("late", ["capture", "skip", "fail"])
@pytest.mark.parametrize("number", range(-1, 5))
def test_other_windows_of_the_same_backfill_are_covered(in_run: Any, number: int, late: str) -> None:
    in_run("backfill", START + number * DAY, END + number * DAY)
    now = END + 4 * DAY + timedelta(minutes=7)
    found = standing(policy(late), with_snapshot(now, START - 3 * DAY, late=True), now + timedelta(minutes=1))
    assert "snapshot S, taken after" in (why_not(policy(late), found) or "")


def test_a_window_that_a_later_snapshot_does_not_stand_for_is_captured(in_run: Any) -> None:
    in_run("backfill")
    found = standing(policy(), with_snapshot(END + 2 * DAY), END + 3 * DAY)
    assert found.covered_by is None


def test_a_run_on_time_does_not_ask_who_else_captured(in_run: Any) -> None:
    in_run("scheduled")
    found = standing(policy(), with_snapshot(END), END + timedelta(minutes=5))
    assert found.covered_by is None


def test_a_run_beside_a_late_one_leaves_the_capture_to_it(in_run: Any) -> None:
    now = END + 5 * DAY
    state = with_session("d/other", Window(START, now))
    in_run("backfill", START + DAY, END + DAY)
    found = standing(policy(), state, now)
    assert "session O of run d/other" in (why_not(policy(), found) or "")
    assert why_not(policy(), standing(policy(), with_session("d/own", Window(START, now)), now)) is None
    in_run("backfill", now - DAY, now + DAY)
    assert standing(policy(), state, now + DAY).awaited is None, "its window ends after the other run has looked"


@pytest.mark.parametrize("late", ["capture", "skip", "fail"])
def test_a_source_with_history_has_no_late_windows_as_far_back_as_it_reaches(in_run: Any, late: str) -> None:
    in_run("backfill")
    other = with_session("d/other", Window(START - DAY, END + 9 * DAY))
    captured_late = with_snapshot(END + 2 * DAY, START - DAY, late=True)
    for state in (LogState(), other, captured_late):
        found = standing(policy(late), state, END + 30 * DAY, timedelta.max)
        assert (found.window, found.late) == (Window(START, END), False)
        assert why_not(policy(late), found) is None
    same = standing(policy(late), with_snapshot(END), END + 30 * DAY, timedelta.max)
    assert why_not(policy(late), same) == "snapshot S, taken after this window's end, stands for it"


def test_beyond_its_history_a_source_is_one_without(in_run: Any) -> None:
    in_run("backfill")
    kept = 5 * DAY
    assert not standing(policy(), LogState(), END + kept - timedelta(seconds=1), kept).late
    found = standing(policy(), LogState(), END + kept, kept)
    assert (found.window, found.late) == (Window(START, END + kept), True)
    with pytest.raises(SourceError) as caught:
        standing(policy("fail"), LogState(), END + kept, kept)
    assert "no longer history" in (caught.value.hint or "")


def test_runs_of_a_backfill_that_open_at_the_same_moment_make_one_session(in_run: Any, tmp_path: Path) -> None:
    store, clock, plan = MemoryStore(), Clock(END + 5 * DAY), policy()
    make_repository(store, clock)
    repositories = [open_repository(store) for _ in range(3)]
    needed = []
    for number, repository in enumerate(repositories):  # all of them look before the first one opens
        in_run("backfill", START + number * DAY, END + number * DAY)
        needed.append(standing(plan, repository.state, clock()))
    assert [why_not(plan, stands) for stands in needed] == [None] * 3

    def open_one(number: int) -> Run:
        in_run("backfill", START + number * DAY, END + number * DAY, run_id=f"run {number}")
        return open_run(
            repositories[number],
            plan,
            PosixSource(str(tmp_path)),
            run=task_context.run_identity(),
            window=needed[number].window,
            clock=clock,
            entropy=os.urandom,
            late=needed[number].late,
            validate=partial(backup_tasks._require_needed, plan),
        )

    open_one(0)
    for number in (1, 2):
        with pytest.raises(AirflowSkipException, match="of run d/run 0, opened after"):
            open_one(number)
    assert len(repositories[0].log.refresh().sessions) == 1


@pytest.mark.parametrize("late", ["skip", "fail"])
def test_a_late_run_captures_nothing_where_the_policy_says_so(in_run: Any, late: str) -> None:
    in_run("scheduled")
    on_time = standing(policy(late), LogState(), END + DAY - timedelta(microseconds=1))
    assert why_not(policy(late), on_time) is None
    if late == "skip":
        assert "late: skip" in (why_not(policy(late), standing(policy(late), LogState(), END + DAY)) or "")
        return
    with pytest.raises(SourceError, match="was over long before"):
        standing(policy(late), LogState(), END + DAY)


@pytest.mark.parametrize("run_type", ["manual", "asset_triggered"])
def test_other_runs_stand_for_the_time_since_the_last_snapshot(in_run: Any, run_type: str) -> None:
    in_run(run_type)
    now = END + timedelta(hours=5)
    assert standing(policy(), LogState(), now).window == Window(now, now)
    assert standing(policy(), with_snapshot(END), now).window == Window(END, now)


def test_a_run_without_an_interval_stands_for_now(in_run: Any) -> None:
    in_run("scheduled", None, None)
    assert standing(policy(), LogState(), END).window == Window(END, END)
