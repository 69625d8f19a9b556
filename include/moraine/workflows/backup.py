"""The backup DAG of a policy. Parsed over and over by Airflow: nothing here reads more than the policy."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from airflow.sdk import DAG, CronDataIntervalTimetable, Param, TriggerRule, task
from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference
from airflow.sdk.definitions.param import ParamsDict

from moraine.engine.windows import first_instant
from moraine.model.policy import Policy, Schedule
from moraine.workflows import backup_tasks as tasks
from moraine.workflows.assets import snapshot_asset
from moraine.workflows.notify import failure_notifiers
from moraine.workflows.objectives import late_run
from moraine.workflows.pools import BACKUP_FIRST, READ, WRITE
from moraine.workflows.retry import task_defaults
from moraine.workflows.task_log import RESULT, told

LONGEST_RUN = timedelta(days=7)
READERS = ("open", "list", "copy")  # these look at the source, all others at the repository alone
_FAILED = "read the log of the red task, remove the cause, clear it with what follows: what is stored is used."
_LONG_AGO = datetime(2020, 1, 1, tzinfo=ZoneInfo("UTC"))


def dag_id(policy: str) -> str:
    """The id of a policy's DAG; never changes, history hangs on it."""
    return f"backup__{policy}"


def build_backup_dag(policy: Policy) -> DAG:
    """open → list → diff → gate → copy → verify → commit → prove → retain, and close in any case."""
    name = policy.policy
    with DAG(
        dag_id(name),
        description=policy.description or f"back up {policy.source.place}",
        doc_md=_page(policy),
        schedule=_timetable(policy.schedule),
        start_date=_start(policy.schedule),
        catchup=bool(policy.schedule and policy.schedule.catchup),
        max_active_runs=1,  # the second of two runs at once would copy what the first is copying
        dagrun_timeout=LONGEST_RUN,
        on_failure_callback=failure_notifiers(policy) or None,
        deadline=_deadline(policy),
        default_args={**task_defaults(policy.owner or "moraine"), **BACKUP_FIRST},
        tags=["moraine", "backup", *policy.tags],
    ) as dag:
        # One at a time over all runs, the oldest window first: of the runs of a backfill it is the one to capture.
        opened = _task(told(tasks.open_, hand_out="shards"), max_active_tis_per_dag=1)(policy=name)
        here = {"policy": name, "opened": opened[RESULT]}
        listed = _task(told(tasks.list_), "shard['label']").partial(**here).expand(shard=opened)
        diffed = _task(told(tasks.diff, hand_out="shards"))(**here, listed=listed)
        changes = diffed[RESULT]
        gated = _task(told(tasks.gate))(**here, diffed=changes)
        copied = _task(told(tasks.copy), "shard['label']").partial(**here, diffed=changes).expand(shard=diffed)
        verified = _task(told(tasks.verify), "copied['label']").partial(**here, diffed=changes).expand(copied=copied)
        committed = _task(
            told(tasks.commit),
            outlets=[snapshot_asset(name)],
            trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,  # a night without changes has nothing to copy
        )(**here, diffed=changes, copied=copied, verified=verified)
        proven = _task(told(tasks.prove))(policy=name, committed=committed)
        retained = _task(told(tasks.retain))(policy=name)
        # A teardown that may fail the run would be its only leaf: then a failed backup would count as a success.
        closed = _task(told(tasks.close))(policy=name).as_teardown()
        gated >> copied
        proven >> retained >> closed
    # After its tasks: each of them would copy the form, which takes a quarter of the time of parsing.
    dag.params = ParamsDict(_form())
    return dag


def _task(step: Callable[..., Any], map_label: str | None = None, **options: Any) -> Any:
    """The step as a task; `map_label` says which of its arguments names a mapped piece."""
    if map_label:
        options["map_index_template"] = f"{{{{ task.op_kwargs{_first_key(map_label)} }}}}"
    name = step.__name__.rstrip("_")
    pool = READ if name in READERS else WRITE
    return task(task_id=name, multiple_outputs=False, pool=pool.name, **options)(step)


def _first_key(label: str) -> str:
    return re.sub(r"^(\w+)", r"['\1']", label)


def _timetable(schedule: Schedule | None) -> CronDataIntervalTimetable | None:
    if schedule is None or schedule.cron is None:
        return None
    return CronDataIntervalTimetable(schedule.cron, timezone=schedule.timezone)


def _start(schedule: Schedule | None) -> datetime:
    return (first_instant(schedule) if schedule else None) or _LONG_AGO


def _deadline(policy: Policy) -> DeadlineAlert | None:
    """A run has to end before what the run before it made is too old: its window's start and the objective later."""
    rpo, scheduled = policy.objectives.rpo, policy.schedule and policy.schedule.cron
    if rpo is None or not scheduled or not any("objective" in one.on for one in policy.notify):
        return None
    callback = SyncCallback(late_run, {"policy": policy.policy})
    return DeadlineAlert(DeadlineReference.DAGRUN_LOGICAL_DATE, rpo, callback, name="rpo")


def _page(policy: Policy) -> str:
    """The policy in English as Markdown: a list, one sentence per aspect."""
    title, *lines = policy.explain().splitlines()
    items = [line.partition(": ") for line in lines]
    items.append(("When a run fails", ": ", _FAILED))
    return "\n".join([_plain(title), "", *(f"- **{key}:** {_plain(text)}" for key, _, text in items)])


def _plain(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", text)


def _form() -> dict[str, Param]:
    return {
        "full": Param(
            False,
            type="boolean",
            title="Read every file again",
            description="Read and hash unchanged files too, and store whatever differs from what was stored before.",
        ),
        "allow_change": Param(
            False,
            type="boolean",
            title="Let this change through",
            description="Pass the gate whatever it says: for a deletion or change that is meant.",
        ),
        "retain_dry_run": Param(
            False,
            type="boolean",
            title="Forget nothing",
            description="Only say which snapshots the rules would forget.",
        ),
    }
