"""Which failures Airflow tries again, and when: the error tree's Transient ones, never its Terminal ones.

A call to a store has been tried for a minute already when its error gets here; this is the patience after that.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

from moraine.errors import Terminal, Transient


class JitteredRetryPolicy(ExceptionRetryPolicy):
    """Waits a random share of the task's exponential backoff.

    Airflow's own jitter is the same for every try of a task and never waits less than half: the mapped tasks of a run,
    which a busy store has refused together, would come back together.
    """

    draw: Callable[[], float] = staticmethod(random.random)  # in [0, 1)

    def evaluate(self, exception: BaseException, try_number: int, max_tries: int, context: Any = None) -> Any:
        """The rules' decision; how long to wait is up to the task and to chance."""
        decision = super().evaluate(exception, try_number, max_tries, context)
        if decision.action is not RetryAction.RETRY or not context:
            return decision
        task = context["task"]
        before = max(0, try_number - (max_tries - task.retries) - 1)  # failures since the task was cleared
        longest = min(task.retry_delay * task.retry_exponential_backoff**before, task.max_retry_delay)
        return replace(decision, retry_delay=longest * self.draw())


def retry_policy() -> ExceptionRetryPolicy:
    """Two rules cover the tree; an error from outside it is tried again as often as `retries` says."""
    return JitteredRetryPolicy(
        rules=[
            RetryRule(exception=_name(Transient), action=RetryAction.RETRY, reason="may go through later"),
            RetryRule(exception=_name(Terminal), action=RetryAction.FAIL, reason="would fail again"),
        ]
    )


def task_defaults(owner: str) -> dict[str, Any]:
    """What all tasks of a DAG share: four more tries within 30 s, 1, 2 and 4 minutes."""
    return {
        "owner": owner,
        "retries": 4,
        "retry_delay": timedelta(seconds=30),
        "retry_exponential_backoff": 2,
        "max_retry_delay": timedelta(minutes=15),
        "retry_policy": retry_policy(),
    }


def _name(cls: type) -> str:
    # By name: a DAG file may be parsed anew in one process, and a class compared with its reloaded twin never matches.
    return f"{cls.__module__}.{cls.__qualname__}"
