"""Which failures Airflow tries again: the error tree's Transient ones, never its Terminal ones."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

from moraine.errors import Terminal, Transient


def retry_policy() -> ExceptionRetryPolicy:
    """Two rules cover the tree; an error from outside it is tried again as often as `retries` says."""
    return ExceptionRetryPolicy(
        rules=[
            RetryRule(exception=_name(Transient), action=RetryAction.RETRY, reason="may go through later"),
            RetryRule(exception=_name(Terminal), action=RetryAction.FAIL, reason="would fail again"),
        ]
    )


def task_defaults(owner: str) -> dict[str, Any]:
    """What all tasks of a DAG share: four more tries after 30 s, 1, 2 and 4 minutes."""
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
