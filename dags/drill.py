"""One Airflow DAG per policy that rehearses its restore: `drill__<policy>`."""

from __future__ import annotations

from airflow.sdk import get_parsing_context

from moraine.workflows.drill import build_drill_dag, drill_dag_id
from moraine.workflows.policies import read_policies

wanted = get_parsing_context().dag_id  # a task needs its own DAG only
for policy in read_policies()[0]:
    if wanted in (None, drill_dag_id(policy.policy)):
        globals()[drill_dag_id(policy.policy)] = build_drill_dag(policy)
