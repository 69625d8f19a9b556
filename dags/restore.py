"""The Airflow DAG that brings snapshots back: `restore`."""

from __future__ import annotations

from moraine.workflows.policies import read_policies
from moraine.workflows.restore import build_restore_dag

restore = build_restore_dag([policy.policy for policy in read_policies()[0]])
