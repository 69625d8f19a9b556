"""The tasks of the restore DAG: plan, execute, verify. Each fills in a plan from the run's form and calls one step.

A plan is made anew by every task, from the same form against the target as it is then: so a cleared `execute` goes on
where it stopped, and `verify` sees whether anything is left to do.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from moraine.errors import ConfigError, DamagedObject, RestoreError, SnapshotNotFound
from moraine.model.window import format_time, parse_time
from moraine.workflows.policies import find_policy
from moraine.workflows.task_context import Json, parameter
from moraine.workflows.task_log import LogProgress, log

if TYPE_CHECKING:
    from moraine.repository.repository import Repository
    from moraine.sources.target import Notes, Target
    from moraine.steps.restore_plan import RestorePlan

_SHOWN = 100  # entries and notes of each kind that go into log and XCom; all are counted


def plan() -> Json:
    """Say what would be created, overwritten, kept and deleted. Writes nothing."""
    repository = _repository()
    name = find_snapshot(repository)
    target = _target(repository, name)
    made = _plan(repository, target, name)
    facts = made.to_dict()
    for row in _first_rows(made, repository):
        log.info("%s", row)
    for extra in facts["extras"][:_SHOWN]:
        log.info("delete     %s", extra)
    if not made.enough_space:
        log.warning("the target seems to have less room than is needed")
    return {**facts, "extras": facts["extras"][:_SHOWN], "notes": facts["notes"][:_SHOWN]}


def execute(planned: Json) -> Json:
    """Do it, unless this is a dry run."""
    from moraine.steps.restore import execute_restore

    if parameter("dry_run"):
        raise AirflowSkipException("dry run: the log of `plan` says what would be done; switch it off to do it")
    repository = _repository()
    target = _target(repository, planned["snapshot"])
    made = _plan(repository, target, planned["snapshot"])
    restored = execute_restore(made, repository, target, owners=parameter("owners"), progress=LogProgress())
    for note in restored.warnings[:_SHOWN]:
        log.warning("%s: %s: %s", note["code"], note["path"] or "target", note["message"])
    if restored.exit_code >= 50:
        raise DamagedObject(
            "some content could not be read back from the repository; everything else is restored",
            hint="the log names each file; run `moraine check --read-data`",
        )
    return {**asdict(restored), "warnings": restored.warnings[:_SHOWN]}


def verify(planned: Json, restored: Json) -> Json:
    """Read every restored file again and compare it with the snapshot."""
    from moraine.sources.target import Notes
    from moraine.steps.restore_verify import verify_plan

    if not parameter("verify"):
        raise AirflowSkipException("not asked for")
    repository = _repository()
    target = _target(repository, planned["snapshot"])
    again = _plan(repository, target, planned["snapshot"])
    notes = Notes()
    files = verify_plan(again, repository, target, notes, LogProgress())
    _require_equal(again, notes)
    return {"files": files, "snapshot": restored["snapshot"], "target": restored["target"]}


def find_snapshot(repository: Repository) -> str:
    """The snapshot the form asks for: by name, or the newest captured by a time. Raises SnapshotNotFound."""
    policy, at = parameter("policy"), parameter("at")
    if not at:
        return repository.find(parameter("snapshot"), policy).id
    moment = parse_time(at)
    taken = [record for record in repository.state.live(policy) if record.captured_at <= moment]
    if not taken:
        raise SnapshotNotFound(
            f"policy {policy} has no snapshot captured by {format_time(moment)}", hint="`moraine snapshots` lists them"
        )
    return max(taken, key=lambda record: record.captured_at).id


def _repository() -> Repository:
    from moraine.workflows.mirrors import open_policy_repository

    return open_policy_repository(find_policy(parameter("policy")))


def _target(repository: Repository, snapshot: str) -> Target:
    from moraine.workflows.connections import open_restore_target

    place = parameter("target")
    if not place.startswith("s3://") and not PurePath(place).is_absolute():
        raise ConfigError(f"the target {place!r} is not an absolute path", hint="write it from / on, or s3://bucket")
    return open_restore_target(
        place,
        repository,
        repository.snapshot(snapshot),
        connection=parameter("target_connection"),
        delete=bool(parameter("delete")),
        markers=bool(parameter("directory_markers")),
        storage_class=parameter("storage_class"),
    )


def _plan(repository: Repository, target: Target, snapshot: str) -> RestorePlan:
    from moraine.steps.restore_plan import plan_restore

    return plan_restore(
        repository,
        repository.snapshot(snapshot),
        target=target,
        include=parameter("paths") or (),
        exclude=parameter("exclude") or (),
        overwrite=parameter("overwrite"),
        delete=bool(parameter("delete")),
    )


def _first_rows(made: RestorePlan, repository: Repository) -> list[str]:
    from moraine.model.entry import display_path, join_path

    lines: list[str] = []
    for table in made.rows(repository):
        for row in table.slice(0, _SHOWN).to_pylist():
            if row["action"] != "nothing" and len(lines) < _SHOWN:
                lines.append(f"{row['action']:<10} {display_path(join_path(row['dir'], row['name']) or b'.')}")
        if len(lines) >= _SHOWN:
            break
    return lines


def _require_equal(again: RestorePlan, notes: Notes) -> None:
    differing: list[dict[str, Any]] = notes.to_list()
    for note in differing[:_SHOWN]:
        log.error("%s: %s: %s", note["code"], note["path"], note["message"])
    if differing or again.write_files:
        raise RestoreError(
            f"{sum(notes.counts.values()):,} restored files differ, {again.write_files:,} are missing",
            hint="the log names them; did something else write to the target?",
        )
