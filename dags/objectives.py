"""The Airflow DAGs that look after all policies together: `objectives` and `digest`."""

from __future__ import annotations

from moraine.workflows.objectives import build_digest_dag, build_objectives_dag
from moraine.workflows.policies import read_policies

policies = read_policies()[0]
objectives = build_objectives_dag(policies)
digest = build_digest_dag(policies)
