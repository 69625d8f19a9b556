"""The restore DAG: one for all policies, started from its form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, task

from moraine.workflows import restore_tasks as tasks
from moraine.workflows.pools import RESTORE, RESTORE_FIRST
from moraine.workflows.retry import task_defaults
from moraine.workflows.task_log import told

_PAGE = """
Brings a snapshot, or part of it, back to a directory of the worker that runs it, or to a bucket.

1. **plan** says what would be created, overwritten, kept and deleted. It writes nothing.
2. **execute** does it. A dry run, which is the default, ends before it.
3. **verify** reads every restored file again and compares it with the snapshot.

The tree stands right in the target, as it stood in the source. Interrupted, it goes on: clear the task.
The same by command line, without Airflow: `./moraine restore latest --to DIR`.
"""


def build_restore_dag(policies: Sequence[str]) -> DAG:
    """plan → execute → verify."""
    with DAG(
        "restore",
        description="bring a snapshot back",
        doc_md=_PAGE,
        schedule=None,
        max_active_runs=4,
        dagrun_timeout=timedelta(days=7),
        default_args={**task_defaults("moraine"), **RESTORE_FIRST, "pool": RESTORE.name},
        tags=["moraine", "restore"],
        params=_form(policies),
    ) as dag:
        planned = _task(tasks.plan)()
        restored = _task(tasks.execute)(planned=planned)
        _task(tasks.verify)(planned=planned, restored=restored)
    return dag


def _task(step: Callable[..., Any]) -> Any:
    return task(task_id=step.__name__, multiple_outputs=False)(told(step))


def _form(policies: Sequence[str]) -> dict[str, Param]:
    known: dict[str, Any] = {"default": policies[0], "enum": list(policies)} if policies else {}
    return {
        "policy": Param(**known, type="string", title="Policy", description="Whose snapshots, in whose repository."),
        "snapshot": Param(
            "latest",
            type="string",
            minLength=1,
            title="Snapshot",
            description="`latest`, an id, or the beginning or end of one.",
        ),
        "at": Param(
            None,
            type=["null", "string"],
            format="date-time",
            title="Or: as it was at",
            description="The newest snapshot captured by this time; overrules the field above.",
        ),
        "paths": Param(
            [],
            type="array",
            items={"type": "string"},
            title="Only these paths",
            description="One glob per line: `docs`, `docs/*.md` from the root, `*.csv` at any depth. None: everything.",
        ),
        "exclude": Param([], type="array", items={"type": "string"}, title="But not these paths"),
        "target": Param(
            type="string",
            pattern="^(/|s3://[^/@]+)",
            title="Target",
            description="Absolute path of a directory on the worker, made where it is missing; or s3://bucket/prefix.",
        ),
        "target_connection": Param(
            None,
            type=["null", "string"],
            title="Connection of a target in S3",
            description="An AWS connection with credentials and endpoint; none: the worker's own.",
        ),
        "storage_class": Param(
            None, type=["null", "string"], title="Storage class", description="In S3: of the objects written."
        ),
        "directory_markers": Param(
            False,
            type="boolean",
            title="Directory markers",
            description="In S3: an empty object `name/` for each directory of a tree.",
        ),
        "overwrite": Param(
            "if-changed",
            enum=["if-changed", "if-newer", "always", "never"],
            title="Overwrite",
            description="What happens to files that are in the target already.",
        ),
        "delete": Param(
            False,
            type="boolean",
            title="Delete extras",
            description="Remove what the target has and the snapshot has not.",
        ),
        "owners": Param(
            "id",
            enum=["id", "name", "keep"],
            title="Owners",
            description="By number, by name, or the worker's own user (always so where it is not root).",
        ),
        "verify": Param(
            True, type="boolean", title="Verify", description="Read every restored file again and compare."
        ),
        "dry_run": Param(
            True, type="boolean", title="Dry run", description="Only say what would be done. Switch off to restore."
        ),
    }
