"""What a task has in hand: its policy, repository and source, and where it stands in its DAG run.

The only place that reads Airflow's task context. Below it everything gets clock, randomness and names passed in.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import get_current_context

from moraine.errors import SourceError
from moraine.model.window import Window, format_time
from moraine.workflows.policies import find_policy
from moraine.workflows.task_log import LogProgress

if TYPE_CHECKING:
    from moraine.model.log import LogState
    from moraine.model.policy import Policy
    from moraine.model.snapshot import SnapshotRecord
    from moraine.repository.repository import Repository
    from moraine.sources.base import Source
    from moraine.steps.run import Run

Json = dict[str, Any]


def now() -> datetime:
    """The present."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Bench:
    """A task's policy, its repository with the log read anew, and its source."""

    policy: Policy
    repository: Repository
    source: Source

    @classmethod
    def of(cls, name: str) -> Bench:
        """The bench of a policy, with this run's parameters applied."""
        from moraine.workflows.connections import open_policy_source, open_repository

        policy = find_policy(name)
        if parameter("full"):
            policy = policy.model_copy(update={"rehash": 1.0})
        repository = open_repository(policy.repository)
        repository.log.refresh()
        return cls(policy, repository, open_policy_source(policy))

    def resume(self, opened: Json, *, committed: bool = False) -> Run:
        """The run that the `open` task opened."""
        from moraine.steps.run import resume_run

        return resume_run(
            self.repository,
            self.policy,
            self.source,
            opened["session"],
            opened["attempt"],
            clock=now,
            entropy=os.urandom,
            progress=LogProgress(),
            committed=committed,
        )


def parameter(name: str) -> Any:
    """One field of the form that started this run."""
    return get_current_context()["params"].get(name)


def run_identity() -> str:
    """The logical run: the same for every retry and every cleared task of a DAG run."""
    run = get_current_context()["dag_run"]
    return f"{run.dag_id}/{run.run_id}"


def host() -> str:
    """The machine this runs on, for people."""
    return socket.gethostname()


@dataclass(frozen=True, slots=True)
class Standing:
    """The window a run's snapshot will stand for."""

    window: Window
    late: bool
    covered_by: SnapshotRecord | None  # a snapshot taken after the window's end: it stands for this window too


def standing(policy: Policy, state: LogState, at: datetime) -> Standing:
    """A scheduled run stands for its data interval; any other for the time since the last snapshot.

    A source without history cannot be read as of the past: a late run captures the present, for all windows from its
    own on; a later run for one of those finds it covered.

    Raises:
        SourceError: the window is long over and the policy says `late: fail`.
    """
    run = get_current_context()["dag_run"]
    start, end = run.data_interval_start, run.data_interval_end
    live = state.live(policy.policy)
    if run.run_type not in ("scheduled", "backfill") or not (start and end and start < end):
        last = max((record.window.end for record in live), default=at)
        return Standing(Window(min(last, at), at), late=False, covered_by=None)
    if at < end + max(end - start, timedelta(minutes=1)):
        return Standing(Window(start, end), late=False, covered_by=None)
    if policy.schedule and policy.schedule.late == "fail":
        raise SourceError(
            f"the window up to {format_time(end)} was over long before this run",
            hint="the source has no history to read it from; `late: capture` in the policy takes the present instead",
        )
    taken = [record for record in live if record.captured_at >= end]
    return Standing(Window(start, at), True, min(taken, key=lambda record: record.captured_at, default=None))
