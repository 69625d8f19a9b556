"""A sample Airflow DAG that waits for the demo policies' snapshots: `after_backup__<policy>`."""

from __future__ import annotations

from moraine.workflows.after_backup import build_after_backup_dag
from moraine.workflows.policies import read_policies

for policy in read_policies()[0]:
    if "demo" in policy.tags:
        globals()[f"after_backup__{policy.policy}"] = build_after_backup_dag(policy.policy)
