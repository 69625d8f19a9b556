"""A DAG run in this process, shown in the terminal as it goes."""

from __future__ import annotations

import shlex
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

from airflow.listeners import hookimpl
from airflow.models.dagrun import DagRun
from airflow.sdk.listener import get_listener_manager
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, State, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType
from sqlalchemy import select

from moraine.errors import MoraineError
from moraine.model.policy import Policy
from moraine.model.units import format_size
from moraine.workflows.airflow_home import ROOT
from moraine.workflows.backup import build_backup_dag
from moraine.workflows.sentences import count, sentence
from moraine.workflows.task_log import RESULT


class Teller:
    """Prints a line whenever a task ends, and keeps what it came to."""

    def __init__(self, terminal: IO[str]) -> None:
        self._terminal = terminal
        self._begun = time.monotonic()
        self.results: dict[str, Any] = {}
        self.error: BaseException | str | None = None

    @hookimpl
    def on_task_instance_running(self, previous_state: Any, task_instance: Any) -> None:
        """Take the time."""
        del previous_state, task_instance
        self._begun = time.monotonic()

    @hookimpl
    def on_task_instance_success(self, previous_state: Any, task_instance: Any) -> None:
        """Say what it came to."""
        del previous_state
        ti = task_instance
        where = {"task_ids": ti.task_id, "map_indexes": ti.map_index}
        result = ti.xcom_pull(**where)
        if isinstance(result, list):  # what later tasks are mapped over; the rest is under a key of its own
            result = ti.xcom_pull(key=RESULT, **where)
        self.results[ti.task_id] = result
        self._line(ti.task_id, sentence(ti.task_id, result))

    @hookimpl
    def on_task_instance_skipped(self, previous_state: Any, task_instance: Any) -> None:
        """Say that it did nothing."""
        del previous_state
        self._line(task_instance.task_id, "skipped")

    @hookimpl
    def on_task_instance_failed(self, previous_state: Any, task_instance: Any, error: Any) -> None:
        """Say why."""
        del previous_state
        self.error = error
        text = error.line() if isinstance(error, MoraineError) else f"{type(error).__name__}: {error}"
        self._line(task_instance.task_id, f"FAILED  {text}")

    def _line(self, task: str, text: str) -> None:
        took = time.monotonic() - self._begun
        print(f"  {task:<8}{took:6.1f} s   {text}", file=self._terminal, flush=True)


def run_dag(policy: Policy, log: Path, terminal: IO[str]) -> int:
    """One run of the policy's DAG; the exit code."""
    teller = Teller(terminal)
    get_listener_manager().add_listener(teller)  # type: ignore[no-untyped-call]
    dag = build_backup_dag(replace(policy, notify=()))  # who runs it here sees how it ends
    for task in dag.tasks:
        task.retry_delay = timedelta(seconds=1)  # somebody is waiting
    _end_left_over(dag.dag_id)
    try:
        run = dag.test()
    except BaseException:
        _end_left_over(dag.dag_id)
        raise
    if str(run.state) != "success":
        print(f"\nthe run failed; Airflow's log of it is {log}", file=terminal)
        return teller.error.exit_code if isinstance(teller.error, MoraineError) else 1
    committed: dict[str, Any] | None = teller.results.get("commit")
    if committed is None:
        print("\nnothing had to be done", file=terminal)
        return 0
    print(_summary(policy, committed, teller.results.get("prove")), file=terminal)
    return int(committed["exit_code"])


def _end_left_over(dag_id: str) -> None:
    """A run whose process was stopped would count as running for ever, and hold up all others of its DAG."""
    with create_session() as session:
        wanted = (
            DagRun.dag_id == dag_id,
            DagRun.state == DagRunState.RUNNING,
            DagRun.triggered_by == DagRunTriggeredByType.TEST,
        )
        for run in session.scalars(select(DagRun).where(*wanted)):
            for task in run.get_task_instances(state=State.unfinished, session=session):
                task.set_state(TaskInstanceState.FAILED, session=session)
            run.set_state(DagRunState.FAILED)


def _summary(policy: Policy, committed: dict[str, Any], proven: dict[str, Any] | None) -> str:
    repository = policy.repository
    flags = f"--repo {_short(repository.url)}"
    if repository.passphrase_file:
        flags += f" --passphrase-file {_short(repository.passphrase_file)}"
    moraine = "./moraine" if Path.cwd() == ROOT else shlex.quote(str(ROOT / "moraine"))
    return f"""
snapshot  {committed["snapshot"]}
holds     {count(committed["files"], "file")}, {format_size(committed["bytes"])}
added     {format_size(committed["added"])} of new content, {format_size(committed["stored"])} stored
proven    {sentence("prove", proven) if proven else "no"}

look around   {moraine} snapshots {flags}
              {moraine} ls latest {flags}
restore       {moraine} restore latest --to restored {flags}
in Airflow    {moraine} up"""


def _short(path: str) -> str:
    """As a shell takes it; relative to where the user stands, when it is below."""
    if "://" in path:
        return shlex.quote(path)
    resolved, here = Path(path).resolve(), Path.cwd()
    return shlex.quote(str(resolved.relative_to(here) if resolved.is_relative_to(here) else resolved))
