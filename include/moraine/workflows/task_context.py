"""What a task has in hand: its policy, repository and source, and where it stands in its DAG run.

The only place that reads Airflow's task context. Below it everything gets clock, randomness and names passed in.
"""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import get_current_context

from moraine.engine.coverage import Standing, stand
from moraine.engine.windows import first_instant
from moraine.errors import SourceError
from moraine.model.record import dataclass
from moraine.model.window import Window, format_time
from moraine.workflows.policies import find_policy
from moraine.workflows.task_log import LogProgress

if TYPE_CHECKING:
    from moraine.model.log import LogState
    from moraine.model.policy import Policy
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
        from moraine.workflows.connections import open_policy_source
        from moraine.workflows.mirrors import open_policy_repository

        policy = find_policy(name)
        if parameter("full"):
            policy = replace(policy, rehash=1.0)
        repository = open_policy_repository(policy)
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


def standing(policy: Policy, state: LogState, at: datetime, history: timedelta | None = None) -> Standing:
    """A scheduled run stands for its data interval; any other for the time since the last snapshot.

    A source with `history` is read as of the end of its window, if that lies not too far back. One without cannot be
    read as of the past: a late run captures the present, for all windows since the last snapshot; a later run for one
    of those finds it covered, or about to be.

    Raises:
        SourceError: the window is long over, nothing stands for it, and the policy says `late: fail`.
    """
    run = get_current_context()["dag_run"]
    start, end = run.data_interval_start, run.data_interval_end
    live = state.live(policy.policy)
    if run.run_type not in ("scheduled", "backfill") or not (start and end and start < end):
        last = max((record.window.end for record in live), default=at)
        return Standing(Window(min(last, at), at), late=False)
    others = [s for s in state.sessions.values() if s.policy == policy.policy and s.run != run_identity()]
    first = first_instant(policy.schedule) if policy.schedule else None
    found = stand(Window(start, end), at, live, others, first=first, history=history)
    if found.late and not found.covered_by and policy.schedule and policy.schedule.late == "fail":
        raise SourceError(
            f"the window up to {format_time(end)} was over long before this run",
            hint=f"the source has no {'longer ' if history else ''}history to read it from; `late: capture` in the "
            "policy takes the present instead",
        )
    return found


def why_not(policy: Policy, stands: Standing) -> str | None:
    """Why a run has nothing to capture; None when it has."""
    if stands.covered_by:
        same = stands.covered_by.window == stands.window
        return f"snapshot {stands.covered_by.id}, taken after this window's end, stands for it{'' if same else ' too'}"
    if stands.late and policy.schedule and policy.schedule.late == "skip":
        return "the window was over long before this run, and the policy says `late: skip`"
    if stands.awaited:
        other = stands.awaited
        return (
            f"session {other.id} of run {other.run}, opened after this window's end, will stand for it too; "
            "if that run has failed, clear what failed there"
        )
    return None
