"""The drill DAG of a policy: a restore, rehearsed. Parsed over and over by Airflow: reads no more than the policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow.sdk import DAG, CronTriggerTimetable, Param, TriggerRule, task
from airflow.sdk.definitions.param import ParamsDict

from moraine.model.policy import Policy
from moraine.workflows import drill_tasks as tasks
from moraine.workflows.assets import proven_asset
from moraine.workflows.notify import failure_notifiers
from moraine.workflows.pools import BACKUP_FIRST, RESTORE
from moraine.workflows.retry import task_defaults
from moraine.workflows.task_log import told

_PAGE = """
Rehearses a restore of `{policy}`: {sentence}

1. **pick** draws a snapshot; the seed is kept, so the same drill can be held again.
2. **plan** judges the manifest, chooses the files and makes a place apart, with a quota of its own.
3. **restore** brings them back, in parts; **validate** compares every byte with the snapshot and judges the data sets.
4. **run** lets the policy's application open the result; **measure** forecasts a full restore.
5. **report** keeps the evidence with the repository, and fails when the drill has; **tear_down** removes the place.

The source is never touched. By command line: `./moraine drill {policy}`; the page of a drill:
`./moraine drill {policy} --show latest --report FILE.html`.
"""


def drill_dag_id(policy: str) -> str:
    """The id of a policy's drill DAG; never changes."""
    return f"drill__{policy}"


def build_drill_dag(policy: Policy) -> DAG:
    """pick → plan → restore → validate → run → measure → report, and tear_down in any case."""
    name = policy.policy
    with DAG(
        drill_dag_id(name),
        description=f"rehearse a restore of {name}",
        doc_md=_PAGE.format(policy=name, sentence=_sentence(policy)),
        schedule=_timetable(policy),
        catchup=False,  # and no start date: with one, Airflow would hold a drill before there is a snapshot
        max_active_runs=1,  # `pick` relies on it: a place of another run of this DAG is of one that is over
        dagrun_timeout=policy.drill.place.expires,  # a place is removed by others once it has expired
        on_failure_callback=failure_notifiers(policy, of="drill") or None,
        default_args={**task_defaults(policy.owner or "moraine"), **BACKUP_FIRST, "pool": RESTORE.name},
        tags=["moraine", "drill", *policy.tags],
    ) as dag:
        picked = _task(told(tasks.pick))(policy=name)
        here = {"policy": name, "picked": picked}
        planned = _task(told(tasks.noted(tasks.plan), hand_out="parts"))(**here)
        restored = _task(told(tasks.noted(tasks.restore)), "part").partial(**here).expand(part=planned)
        listed = _task(told(tasks.noted(tasks.sets), hand_out="sets"))(**here)
        validated = _task(told(tasks.noted(tasks.validate)), "item").partial(**here).expand(item=listed)
        ran = _task(told(tasks.noted(tasks.run)))(**here)
        measured = _task(told(tasks.noted(tasks.measure)))(**here)
        reported = _task(told(tasks.report), outlets=[proven_asset(name)], trigger_rule=TriggerRule.ALL_DONE)(
            policy=name
        )
        torn = _task(told(tasks.tear_down))(policy=name).as_teardown()
        planned >> listed
        restored >> validated >> ran >> measured >> reported >> torn
    # After its tasks: each of them would copy the form, which takes a third of the time of parsing.
    dag.params = ParamsDict(_form())
    return dag


def _task(step: Callable[..., Any], mapped: str | None = None, **options: Any) -> Any:
    if mapped:
        options["map_index_template"] = f"{{{{ task.op_kwargs['{mapped}']['label'] }}}}"
    return task(task_id=step.__name__, multiple_outputs=False, **options)(step)


def _timetable(policy: Policy) -> CronTriggerTimetable | None:
    timezone = policy.schedule.timezone if policy.schedule else "UTC"
    return CronTriggerTimetable(policy.drill.schedule, timezone=timezone) if policy.drill.schedule else None


def _sentence(policy: Policy) -> str:
    return next(line for line in policy.explain().splitlines() if line.startswith("Rehearsed: ")).partition(": ")[2]


def _form() -> dict[str, Param]:
    return {
        "snapshot": Param(
            None,
            type=["null", "string"],
            title="Snapshot",
            description="This one: `latest`, an id, or the beginning or end of one. Empty: drawn as the policy says.",
        ),
        "seed": Param(
            None,
            type=["null", "integer"],
            minimum=0,
            title="Seed",
            description="Draws the same snapshot and files as the drill that had it. Empty: a new one.",
        ),
        "restore": Param(
            "as the policy says",
            enum=["as the policy says", "whole", "sample"],
            title="How much",
            description="The whole snapshot, or a sample of its files.",
        ),
    }
