"""Shows policy files that cannot be used as import error of this file; the DAGs of all others go on.

An error raised in dags/backup.py would take every DAG of that file down with it. This file has no Airflow DAG to lose.
"""

from __future__ import annotations

from moraine.errors import ConfigError
from moraine.workflows.policies import read_policies

broken = read_policies()[1]
if broken:
    raise ConfigError("\n".join(["unusable policies:", *(f"- {file.error.line()}" for file in broken)]))
