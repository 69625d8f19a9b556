"""The DAGs that look whether objectives hold, and tell the week: they ask repository and policy, and no other run.

Whoever wants to know that Airflow itself stands still needs a monitor outside of it: `moraine status --exit-code`, or
one that misses the policy's heartbeat.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, CronTriggerTimetable, get_current_context, task

from moraine.errors import ObjectiveMissed
from moraine.model.policy import Policy
from moraine.workflows.notify import tell
from moraine.workflows.policies import find_policy
from moraine.workflows.pools import BACKUP_FIRST
from moraine.workflows.retry import task_defaults
from moraine.workflows.task_context import Json, now
from moraine.workflows.task_log import log, told

_HEARTBEAT_SECONDS = 10
_PAGE = """
Looks every quarter of an hour how each policy that names objectives stands: how old its newest **proven** snapshot is
(`rpo`), and how long a full restore would take by its last drill (`rto`). A task is red while its policy's objectives
are missed. Whom the policy's `notify` names is told once when a gap opens, once more when it is twice the objective,
and when it has closed. While all is well the policy's `heartbeat` URL is fetched.

The same from outside of Airflow: `./moraine status --exit-code`.
"""


def build_objectives_dag(policies: Sequence[Policy]) -> DAG | None:
    """watch, once for each policy that promises something; none where nobody does."""
    watched = [p.policy for p in policies if p.objectives.rpo or p.objectives.rto]
    page = "do the policies keep what they promise?"
    return _dag("objectives", page, "*/15 * * * *", _PAGE, watch, watched) if watched else None


def build_digest_dag(policies: Sequence[Policy]) -> DAG | None:
    """digest, once for each policy that wants one; none where nobody does."""
    wanted = [p.policy for p in policies if any("digest" in one.on for one in p.notify)]
    page = "Tells the week to whom `notify` names."
    return _dag("digest", "the week of each policy", "0 8 * * 1", page, digest, wanted) if wanted else None


def watch(policy: str) -> Json:
    """Look how a policy stands, tell what is new, and fail while an objective is missed."""
    from moraine.report.status import standing, to_dict
    from moraine.steps.watch import Alert
    from moraine.steps.watch import watch as look

    found, repository = find_policy(policy), _repository(policy)
    stands = standing(repository, found, now=now())

    def tell_people(alert: Alert) -> None:
        count = tell(found, "objective", f"{policy}: {alert.objective} {_WORDS[alert.level]}", alert.text, _context())
        log.info("told %d: %s", count, alert.text)

    alerts = look(repository, stands, tell_people, now=now())
    if stands.misses:
        raise ObjectiveMissed(
            "; ".join(miss.reason for miss in stands.misses),
            hint="read why the last backups or drills did not end well; a drill or `backup --prove` proves a snapshot",
        )
    beat = _beat(found.objectives.heartbeat)
    return {**to_dict(stands), "alerts": [alert.level for alert in alerts], "heartbeat": beat}


def digest(policy: str) -> Json:
    """Tell a policy's week."""
    from moraine.report.digest import digest as describe

    found = find_policy(policy)
    text = describe(_repository(policy), found, now=now())
    log.info("%s", text)
    return {"told": tell(found, "digest", f"The week of {policy}", text, _context())}


def late_run(policy: str, context: Any = None) -> None:
    """Tell that a run of a backup will not end in time for the objective: called by Airflow for a deadline missed."""
    deadline = (context or {}).get("deadline", {})
    text = f"{policy}: a run of its backup has not ended by {deadline.get('deadline_time', 'the deadline')}; from then "
    text += "on the newest snapshot is older than the objective (rpo)"
    tell(find_policy(policy), "objective", f"{policy}: backup is late", text, context or {})


_WORDS = {"open": "missed", "escalated": "missed by far", "closed": "met again"}


def _dag(name: str, description: str, cron: str, page: str, step: Callable[[str], Json], policies: list[str]) -> DAG:
    with DAG(
        name,
        description=description,
        doc_md=page,
        schedule=CronTriggerTimetable(cron, timezone="UTC"),
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=timedelta(hours=1),
        default_args={**task_defaults("moraine"), **BACKUP_FIRST, "retries": 2},
        tags=["moraine", name],
    ) as dag:
        mapped = task(
            task_id=step.__name__, multiple_outputs=False, map_index_template="{{ task.op_kwargs['policy'] }}"
        )
        mapped(told(step)).expand(policy=policies)
    return dag


def _repository(policy: str) -> Any:
    from moraine.workflows.connections import open_repository

    repository = open_repository(find_policy(policy).repository)
    repository.log.refresh()
    return repository


def _context() -> dict[str, Any]:
    return dict(get_current_context())


def _beat(url: str | None) -> str | None:
    """Fetch the heartbeat's URL; a monitor that is away is its own alarm and no failure here."""
    if url is None:
        return None
    import requests

    try:
        answer = requests.get(url, timeout=_HEARTBEAT_SECONDS)
        answer.raise_for_status()
    except requests.RequestException as error:
        log.warning("the heartbeat did not get through: %s", type(error).__name__)
        return "failed"
    return "sent"
