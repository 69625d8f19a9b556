"""drill: all of it in one process, for the command line, scripts and tests; the DAG calls the same steps one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from moraine.errors import Cancelled, MoraineError
from moraine.model.policy import Policy
from moraine.model.progress import Progress
from moraine.model.record import dataclass
from moraine.repository.keys import Entropy
from moraine.repository.repository import Repository
from moraine.steps.drill_measure import measure
from moraine.steps.drill_pick import Picked, pick_snapshot
from moraine.steps.drill_place import DrillPlace, Ended, base_of, sweep
from moraine.steps.drill_plan import plan_drill, plan_sets
from moraine.steps.drill_report import Reported, report_drill
from moraine.steps.drill_restore import restore_part
from moraine.steps.drill_run import run_application
from moraine.steps.drill_validate import validate_item
from moraine.steps.drill_verdict import Outcome
from moraine.steps.run import Clock

_MOST_DOCS = 4 << 20  # bytes of a page that is embedded


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a drill works with, besides repository and policy."""

    clock: Clock
    entropy: Entropy
    scratch: Path  # where places are made unless the policy says where
    owner: str  # who holds it
    ended: Ended  # whether an earlier owner has ended
    environ: Mapping[str, str]  # what the application sees
    import_path: str  # where a callable is imported from


def drill(
    repository: Repository,
    policy: Policy,
    with_: Rehearsal,
    *,
    name: str | None = None,
    seed: int | None = None,
    whole: bool | None = None,
    progress: Progress | None = None,
) -> Reported:
    """Hold one drill, from pick to tear down; what it came to, passed or not, is kept with the repository.

    Raises:
        SnapshotNotFound: there is nothing to drill.
        RestoreError: the place cannot be torn down.
        StoreError, StoreUnavailable: the evidence cannot be kept.
    """
    base = base_of(policy, with_.scratch)
    sweep(base, now=with_.clock(), ended=with_.ended)
    picked = pick_snapshot(
        repository, policy, clock=with_.clock, entropy=with_.entropy, name=name, seed=seed, whole=whole
    )
    place = DrillPlace(base, picked.drill)
    outcome = Outcome(picked)
    try:
        _hold(repository, policy, place, outcome, with_, progress)
        return report_drill(repository, policy, outcome, clock=with_.clock, docs=read_docs(place))
    finally:
        place.remove()


def _hold(
    repository: Repository,
    policy: Policy,
    place: DrillPlace,
    outcome: Outcome,
    with_: Rehearsal,
    progress: Progress | None,
) -> None:
    """Task after task, as the DAG has them; the first that fails ends it, and its error is part of the outcome."""
    picked, clock, task = outcome.picked, with_.clock, "plan"
    try:
        planned = plan_drill(repository, policy, picked, place, owner=with_.owner, clock=clock, progress=progress)
        outcome.planned = asdict(planned)
        task = "restore"
        for part in planned.parts:
            restored = restore_part(repository, picked, place, part["number"], clock=clock, progress=progress)
            outcome.restored.append(asdict(restored))
        task = "validate"
        items = plan_sets(repository, policy, picked, place)
        outcome.items = len(items)
        for item in items:
            outcome.validated.append(validate_item(repository, picked, place, item["number"], progress=progress))
        task = "run"
        outcome.answered = run_drill_application(policy, place, with_.environ, with_.import_path)
        task = "measure"
        outcome.measured = measure_drill(repository, policy, picked, (planned.files, planned.bytes), outcome.restored)
    except Cancelled:
        raise
    except MoraineError as error:
        outcome.problems.append(problem_of(task, error))


def run_drill_application(
    policy: Policy, place: DrillPlace, environ: Mapping[str, str], import_path: str
) -> dict[str, Any] | None:
    """What the policy's application says of the restored tree; None where the policy names none."""
    application = policy.drill.run
    if application is None:
        return None
    return asdict(run_application(application, place.root, place.tree, environ=environ, import_path=import_path))


def measure_drill(
    repository: Repository, policy: Policy, picked: Picked, planned: tuple[int, int], restored: list[dict[str, Any]]
) -> dict[str, Any]:
    """The pace of the restore tasks, against the policy's objectives."""
    record = repository.state.snapshots[picked.snapshot]
    measured = measure(
        restored,
        planned=planned,
        files=record.files,
        bytes=record.bytes,
        objectives=policy.objectives,
        store=repository.store.url,
    )
    return asdict(measured)


def problem_of(task: str, error: MoraineError) -> dict[str, Any]:
    """An error that ended a task, as the report takes it."""
    checks = error.context.get("checks")
    return {"task": task, "code": error.code, "message": error.message, "hint": error.hint, "checks": checks}


def read_docs(place: DrillPlace) -> dict[str, str]:
    """The pages that checks left in the place, by name; what is too large to embed is left out."""
    found = {}
    for file in sorted(place.docs.rglob("*.html")) if place.docs.is_dir() else ():
        if file.is_file() and file.stat().st_size <= _MOST_DOCS:
            found[str(file.relative_to(place.docs))] = file.read_text("utf-8", "replace")
    return found
