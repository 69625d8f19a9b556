"""How long Airflow waits before it tries a task again."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import RetryAction

from moraine.errors import GateRefused, StoreUnavailable
from moraine.workflows.retry import JitteredRetryPolicy, retry_policy, task_defaults


def waits(monkeypatch: pytest.MonkeyPatch, dice: float, first_try: int = 1) -> list[float]:
    """Seconds before each of four more tries; a task that was cleared begins with a later try."""
    monkeypatch.setattr(JitteredRetryPolicy, "draw", staticmethod(lambda: dice))
    defaults = task_defaults("me")
    context: Any = {"task": SimpleNamespace(**defaults)}
    last = first_try - 1 + defaults["retries"]
    tries = range(first_try, first_try + defaults["retries"])
    decisions = [retry_policy().evaluate(StoreUnavailable("busy"), number, last, context) for number in tries]
    assert {decision.action for decision in decisions} == {RetryAction.RETRY}
    return [decision.retry_delay.total_seconds() for decision in decisions]


def test_the_wait_is_a_random_share_of_an_exponential_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    assert waits(monkeypatch, 1.0) == [30, 60, 120, 240]
    assert waits(monkeypatch, 0.1) == [3, 6, 12, 24]
    assert waits(monkeypatch, 0.0) == [0, 0, 0, 0]


def test_a_cleared_task_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    assert waits(monkeypatch, 1.0, first_try=6) == [30, 60, 120, 240]


def test_no_wait_is_longer_than_the_task_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JitteredRetryPolicy, "draw", staticmethod(lambda: 1.0))
    task = SimpleNamespace(**{**task_defaults("me"), "retries": 12})
    decision = retry_policy().evaluate(StoreUnavailable("busy"), 12, 12, {"task": task})
    assert decision.retry_delay == timedelta(minutes=15)


def test_mapped_tasks_do_not_come_back_together() -> None:
    context: Any = {"task": SimpleNamespace(**task_defaults("me"))}
    found = {retry_policy().evaluate(StoreUnavailable("busy"), 1, 4, context).retry_delay for _ in range(50)}
    assert len(found) == 50
    assert max(found) - min(found) > timedelta(seconds=10)


def test_a_terminal_error_is_not_waited_for() -> None:
    decision = retry_policy().evaluate(GateRefused("empty"), 1, 4, {"task": SimpleNamespace(**task_defaults("me"))})
    assert (decision.action, decision.retry_delay) == (RetryAction.FAIL, None)
