"""The DAG that looks after repositories: what runs left that nobody went on with is removed, without being asked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronTriggerTimetable, Param, task

from moraine.model.policy import Policy
from moraine.workflows.policies import find_policy
from moraine.workflows.pools import BACKUP_FIRST, WRITE
from moraine.workflows.retry import task_defaults
from moraine.workflows.task_context import Json, now, parameter
from moraine.workflows.task_log import log, told

_LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
_PAGE = """
Every week, in each repository: runs that nobody has started again for 14 days are given up, and what runs that are over
have left (working files, packs that no snapshot refers to) is removed once it is 3 days old. The log says why of each.

The same by command line: `./moraine sweep --dry-run`.
"""


def build_maintenance_dag(policies: Sequence[Policy]) -> DAG | None:
    """sweep, once for each repository, by the first policy that writes there; none where there is no policy."""
    firsts: dict[str, str] = {}
    for policy in policies:
        firsts.setdefault(policy.repository.url.rstrip("/"), policy.policy)
    if not firsts:
        return None
    with DAG(
        "maintenance",
        description="remove what abandoned and finished runs have left",
        doc_md=_PAGE,
        schedule=CronTriggerTimetable("0 12 * * 6", timezone="UTC"),
        start_date=_LONG_AGO,
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=timedelta(hours=12),
        default_args={**task_defaults("moraine"), **BACKUP_FIRST, "pool": WRITE.name},
        tags=["moraine", "maintenance"],
        params={
            "dry_run": Param(False, type="boolean", title="Dry run", description="Only say what would be removed.")
        },
    ) as dag:
        mapped = task(task_id="sweep", multiple_outputs=False, map_index_template="{{ task.op_kwargs['policy'] }}")
        mapped(told(sweep)).expand(policy=sorted(firsts.values()))
    return dag


def sweep(policy: str) -> Json:
    """Remove what is left in a policy's repository, and say why of each session."""
    from moraine.steps.sweep import sweep as execute
    from moraine.workflows.mirrors import open_policy_repository

    repository = open_policy_repository(find_policy(policy))
    swept = execute(repository, clock=now, dry_run=bool(parameter("dry_run")))
    for left in swept.removed:
        log.info("%s of session %s: %s", "would go" if swept.dry_run else "gone", left.session, left.why)
    total = sum(left.bytes for left in swept.removed)
    return {"dry_run": swept.dry_run, "abandoned": swept.abandoned, "bytes": total, "report": swept.report}
