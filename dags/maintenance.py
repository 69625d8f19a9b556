"""The Airflow DAG that looks after the repositories of all policies: `maintenance`."""

from __future__ import annotations

from moraine.workflows.maintenance import build_maintenance_dag
from moraine.workflows.policies import read_policies

maintenance = build_maintenance_dag(read_policies()[0])
