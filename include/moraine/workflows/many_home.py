"""The settings of an Airflow with several Celery workers on this machine: PostgreSQL, Redis, a home of its own.

Mirrors the environment of docker-compose.yaml, where a test compares the two. Imports no Airflow.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from moraine.model.record import dataclass
from moraine.workflows.airflow_home import AirflowHome
from moraine.workflows.databases import NAME
from moraine.workflows.services import COMMANDS, Command, airflow

WORKER_TASKS = 2  # at once, in one worker
LONGEST_TASK = "604800"  # seconds; what runs longer, the broker hands out a second time


@dataclass(frozen=True)
class ManyHome(AirflowHome):
    """The home."""

    postgres_port: int = 0
    redis_port: int = 0

    @property
    def path(self) -> Path:
        """AIRFLOW_HOME, beside that of `./moraine up`: the two may run at once."""
        return self.root / ".airflow/many"

    def prepare(self, inherited: Mapping[str, str]) -> None:
        """Bring the database up to date and make the pools. PostgreSQL must run."""
        self._migrate(inherited)

    def _settings(self) -> dict[str, str]:
        at = f"{NAME}:{self.password}@127.0.0.1:{self.postgres_port}/{NAME}"
        return {
            **super()._settings(),
            "AIRFLOW__CELERY__BROKER_URL": f"redis://:{self.password}@127.0.0.1:{self.redis_port}/0",
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+postgresql+psycopg2://{at}",  # SQLAlchemy 2.1 would take psycopg 3
            "AIRFLOW__CELERY__WORKER_CONCURRENCY": str(WORKER_TASKS),
            "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": LONGEST_TASK,
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CORE__PARALLELISM": "16",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{at}",
        }


def commands(home: Path, workers: int) -> dict[str, Command]:
    """The services, and workers `worker-1` … `worker-N`."""
    return {**COMMANDS, **{f"worker-{number}": _worker(home, f"worker-{number}") for number in range(1, workers + 1)}}


def _worker(home: Path, name: str) -> Command:
    # One log folder serves all, so nobody has to ask a worker for its logs.
    here = ("--celery-hostname", f"{name}@%h", "--pid", str(home / f"{name}.pid"))
    return airflow("celery", "worker", "--skip-serve-logs", *here)
