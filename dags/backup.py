"""One Airflow DAG per policy: `backup__<policy>`."""

from __future__ import annotations

from airflow.sdk import get_parsing_context

from moraine.workflows.backup import build_backup_dag, dag_id
from moraine.workflows.policies import read_policies

wanted = get_parsing_context().dag_id  # a task needs its own DAG only
for policy in read_policies()[0]:
    if wanted in (None, dag_id(policy.policy)):
        globals()[dag_id(policy.policy)] = build_backup_dag(policy)
