"""The tasks of a drill DAG: each calls one step and returns what it came to as small JSON.

Findings are results, not errors: `report` judges them all, and is the task that fails. What ends a task with an error
is noted under the XCom key `PROBLEM` for it, so that the evidence has the reason too. All tasks of a run have to see
the drill's place.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from airflow.sdk import get_current_context

from moraine.errors import MoraineError, ProofFailed
from moraine.workflows.assets import proven_asset
from moraine.workflows.policies import find_policy
from moraine.workflows.task_context import Json, now, parameter, run_identity
from moraine.workflows.task_log import RESULT, LogProgress, log

if TYPE_CHECKING:
    from moraine.model.policy import Policy
    from moraine.repository.repository import Repository
    from moraine.steps.drill_pick import Picked
    from moraine.steps.drill_place import DrillPlace

PROBLEM = "problem"
P = ParamSpec("P")

_SEEN = ("PATH", "LANG", "LC_ALL", "TZ")  # variables that the application may see
_MAY_FAIL = ("plan", "restore", "sets", "validate", "run", "measure")


def noted(step: Callable[P, Json]) -> Callable[P, Json]:
    """The step, leaving word of the error it ends with."""

    @functools.wraps(step)
    def noting(*args: P.args, **kwargs: P.kwargs) -> Json:
        from moraine.steps.drill import problem_of

        try:
            return step(*args, **kwargs)
        except MoraineError as error:
            get_current_context()["ti"].xcom_push(PROBLEM, problem_of(step.__name__, error))
            raise

    return noting


def pick(policy: str) -> Json:
    """Remove what earlier runs of this DAG have left, and pick a snapshot."""
    from moraine.steps.drill_pick import pick_snapshot
    from moraine.steps.drill_place import sweep

    found, repository, base = _bench(policy)
    # One run at a time: a place of this DAG that is not this run's belongs to a run that is over.
    dag = _owner().partition("/")[0]
    for drill in sweep(base, now=now(), ended=lambda owner: owner.partition("/")[0] == dag):
        log.info("removed what drill %s had left", drill)
    much = {"whole": True, "sample": False}.get(parameter("restore"))
    return asdict(
        pick_snapshot(
            repository,
            found,
            clock=now,
            entropy=os.urandom,
            name=parameter("snapshot") or None,
            seed=parameter("seed"),
            whole=much,
        )
    )


def plan(policy: str, picked: Json) -> Json:
    """Judge the manifest, choose the files, make the place."""
    from moraine.steps.drill_plan import plan_drill

    found, repository, base = _bench(policy)
    drill, place = _drill(picked, base)
    progress = LogProgress()
    return asdict(plan_drill(repository, found, drill, place, owner=_owner(), clock=now, progress=progress))


def restore(policy: str, picked: Json, part: Json) -> Json:
    """Restore one part into the place."""
    from moraine.steps.drill_restore import restore_part

    _, repository, base = _bench(policy)
    drill, place = _drill(picked, base)
    restored = restore_part(repository, drill, place, part["number"], clock=now, progress=LogProgress())
    for problem in restored.problems:
        log.error("did not come back: %s", problem)
    return asdict(restored)


def sets(policy: str, picked: Json) -> Json:
    """Say what is to be judged."""
    from moraine.steps.drill_plan import plan_sets

    found, repository, base = _bench(policy)
    drill, place = _drill(picked, base)
    return {"sets": plan_sets(repository, found, drill, place)}


def validate(policy: str, picked: Json, item: Json) -> Json:
    """Judge the content of one part, or one data set."""
    from moraine.steps.drill_validate import validate_item

    _, repository, base = _bench(policy)
    drill, place = _drill(picked, base)
    verdict = validate_item(repository, drill, place, item["number"], progress=LogProgress())
    for check in verdict["checks"]:
        if not check["passed"]:
            log.error("%s: expected %s, found %s %s", check["name"], check["expected"], check["found"], check["detail"])
    return verdict


def run(policy: str, picked: Json) -> Json:
    """Let the application open what was restored."""
    from moraine.steps.drill import run_drill_application

    found, _, base = _bench(policy)
    _, place = _drill(picked, base)
    seen = {name: os.environ[name] for name in _SEEN if name in os.environ}
    answered = run_drill_application(found, place, seen, os.pathsep.join(filter(None, sys.path)))
    if answered and not answered["passed"]:
        log.error("the application does not answer: %s", answered["said"])
    return {"answered": answered}


def measure(policy: str, picked: Json) -> Json:
    """Say what a full restore would take, and whether that is fast enough."""
    from moraine.steps.drill import measure_drill

    found, repository, base = _bench(policy)
    drill, _ = _drill(picked, base)
    planned = _first("plan", RESULT) or {"files": 0, "bytes": 0}
    return measure_drill(repository, found, drill, (planned["files"], planned["bytes"]), _pulled("restore"))


def report(policy: str) -> Json:
    """Judge, and keep the evidence; fails when the drill has."""
    from moraine.steps.drill import read_docs
    from moraine.steps.drill_report import report_drill, require_passed
    from moraine.steps.drill_verdict import Outcome

    picked = _pulled("pick")
    if not picked:
        raise ProofFailed("nothing was picked, so nothing is proven", hint="the log of `pick` says why")
    found, repository, base = _bench(policy)
    drill, place = _drill(picked[0], base)
    outcome = Outcome(
        drill,
        planned=_first("plan", RESULT),
        restored=_pulled("restore"),
        validated=_pulled("validate"),
        items=len((_first("sets", RESULT) or {"sets": []})["sets"]) or None,
        answered=(_first("run") or {}).get("answered"),
        measured=_first("measure"),
        problems=_pulled(*_MAY_FAIL, key=PROBLEM),
    )
    reported = require_passed(report_drill(repository, found, outcome, clock=now, docs=read_docs(place)))
    result = asdict(reported)
    extra = {name: result[name] for name in ("snapshot", "drill", "checks", "report")}
    get_current_context()["outlet_events"][proven_asset(policy)].extra = extra
    return result


def tear_down(policy: str) -> Json:
    """Remove the place and all that is in it, whatever happened."""
    picked = _pulled("pick")
    if not picked:
        return {"removed": False}
    _, place = _drill(picked[0], _base(find_policy(policy)))
    return {"removed": place.remove()}


def _bench(name: str) -> tuple[Policy, Repository, Path]:
    """The policy, its repository opened with the drill's credentials, and where places are."""
    from moraine.workflows.connections import open_repository

    policy = find_policy(name)
    own = {key: value for key, value in asdict(policy.drill.credentials).items() if value}
    repository = open_repository(replace(policy.repository, **own))
    repository.log.refresh()
    return policy, repository, _base(policy)


def _base(policy: Policy) -> Path:
    from moraine.steps.drill_place import base_of

    return base_of(policy, Path(tempfile.gettempdir()))


def _drill(picked: Json, base: Path) -> tuple[Picked, DrillPlace]:
    from moraine.steps.drill_pick import Picked
    from moraine.steps.drill_place import DrillPlace

    return Picked(**picked), DrillPlace(base, picked["drill"])


def _owner() -> str:
    """The run, for the marker of its place: DAG id, a slash, run id."""
    return run_identity()


def _pulled(*tasks: str, key: str = "return_value") -> list[Json]:
    """What tasks, and all mapped pieces of them, have left under a key."""
    found: list[Any] = get_current_context()["ti"].xcom_pull(task_ids=list(tasks), key=key)
    return [value for value in found if value is not None]


def _first(task: str, key: str = "return_value") -> Json | None:
    return next(iter(_pulled(task, key=key)), None)
