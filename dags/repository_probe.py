"""The Airflow DAG that tests the store of a repository: `repository_probe`."""

from __future__ import annotations

from moraine.workflows.policies import read_policies
from moraine.workflows.probe import build_probe_dag

repository_probe = build_probe_dag([policy.policy for policy in read_policies()[0]])
