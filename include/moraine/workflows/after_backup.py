"""A sample of what waits for snapshots: a DAG that runs after each new snapshot of a policy and reads its event."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, get_current_context, task

from moraine.model.units import format_size
from moraine.workflows.assets import snapshot_asset
from moraine.workflows.retry import task_defaults

log = logging.getLogger("moraine")


def build_after_backup_dag(policy: str) -> DAG:
    """report, after each snapshot of the policy."""
    with DAG(
        f"after_backup__{policy}",
        description=f"a sample: runs after each new snapshot of {policy}",
        doc_md="Waits for the asset that a backup's `commit` updates. Copy it to start what needs a fresh backup.",
        schedule=[snapshot_asset(policy)],
        dagrun_timeout=timedelta(hours=1),
        default_args=task_defaults("moraine"),
        tags=["moraine", "sample"],
    ) as dag:
        task(task_id="report", multiple_outputs=False)(report)(policy=policy)
    return dag


def report(policy: str) -> list[dict[str, Any]]:
    """Say what each snapshot holds that this run was started for."""
    events = [event.extra for event in get_current_context()["triggering_asset_events"][snapshot_asset(policy)]]
    for extra in events:
        window, size, added = extra["window"], format_size(extra["bytes"]), format_size(extra["added"])
        log.info("snapshot %s, window to %s: %s, %s of it new", extra["snapshot"], window["end"], size, added)
    return events
