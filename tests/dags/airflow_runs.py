"""Runs DAGs in this process, also a run some tasks of which were cleared."""

from __future__ import annotations

from typing import Any

from airflow.models.dagrun import DagRun
from airflow.sdk import DAG
from airflow.sdk.definitions.dag import _run_task
from airflow.serialization.serialized_objects import DagSerialization
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState


def run(dag: DAG, conf: dict[str, Any] | None = None) -> DagRun:
    """A new run, retries without waiting."""
    for task in dag.tasks:
        task.retry_delay = 0.01
    return dag.test(run_conf=conf)


def states(run: DagRun) -> dict[str, str]:
    """State and number of tries of every task: `copy[1]` → `success 2`."""
    with create_session() as session:
        found = session.merge(run).get_task_instances(session=session)
        return {_name(ti): f"{ti.state} {ti.try_number}" for ti in found}


def clear_failed(dag: DAG, run: DagRun) -> None:
    """What the page's "clear, only failed" does."""
    scheduler_dag = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    scheduler_dag.clear(run_id=run.run_id, only_failed=True)


def go_on(dag: DAG, run: DagRun) -> str:
    """Run what was cleared to the end: the loop of `DAG.test`, which itself can only start new runs."""
    with create_session() as session:
        run = session.merge(run)
        run.dag = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
        run.set_state(DagRunState.RUNNING)
        while run.state == DagRunState.RUNNING:
            session.expire_all()
            for ti in run.update_state(session=session)[0]:
                ti.try_number += 1
                ti.state = TaskInstanceState.SCHEDULED
            session.commit()
            for ti in run.get_task_instances(state=[TaskInstanceState.SCHEDULED], session=session):
                _run_task(ti=ti, task=dag.task_dict[ti.task_id])
        return str(run.state)


def _name(ti: Any) -> str:
    return ti.task_id if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]"
