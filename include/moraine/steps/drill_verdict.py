"""The verdict of a drill: what its tasks came to, as one document. Writes nothing.

A drill fails for what is wrong with the snapshot, which then is in quarantine, or for what went wrong with the drill:
a full place, a pace beyond the objective, a task that died. The latter says nothing about the snapshot.
"""

from __future__ import annotations

import platform
from dataclasses import asdict, field
from datetime import datetime
from typing import Any

import pyarrow as pa

from moraine import __version__
from moraine.model.policy import Policy
from moraine.model.record import dataclass
from moraine.model.window import format_time, parse_time
from moraine.repository.repository import Repository
from moraine.steps.drill_measure import Measured
from moraine.steps.drill_pick import Picked
from moraine.steps.suspects import EVERYTHING

REPORT_VERSION = 1
OF_THE_SNAPSHOT = frozenset({"integrity", "damaged-object", "missing-object", "forged-object", "proof-failed"})

Json = dict[str, Any]


@dataclass(slots=True)
class Outcome:
    """What the tasks of a drill came to; None or fewer than expected where a task has no result."""

    picked: Picked
    planned: Json | None = None
    restored: list[Json] = field(default_factory=list)
    validated: list[Json] = field(default_factory=list)
    items: int | None = None  # that validate was mapped over
    answered: Json | None = None
    measured: Json | None = None
    problems: list[Json] = field(default_factory=list)  # errors of tasks: task, code, message, hint, checks


def judge_drill(repository: Repository, policy: Policy, outcome: Outcome, now: datetime) -> Json:
    """The report's content, without table and page."""
    picked, measured = outcome.picked, outcome.measured
    checks = _checks(outcome)
    bad = [
        f"{c['subject']}: {c['name']}: {_told(c)}" for c in checks if not c["passed"] and c["subject"] != "objective"
    ]
    of_snapshot = [_line(p) for p in outcome.problems if p["code"] in OF_THE_SNAPSHOT and not p.get("checks")] + bad
    of_drill = [_line(p) for p in outcome.problems if p["code"] not in OF_THE_SNAPSHOT] + _unfinished(policy, outcome)
    slow = [Measured(**measured).reason] if measured and measured["within"] is False else []
    record = repository.state.snapshots.get(picked.snapshot)
    complete = not of_drill and outcome.planned is not None
    return {
        "version": REPORT_VERSION,
        "kind": "drill",
        **asdict(picked),
        "captured_at": format_time(record.captured_at) if record else None,
        "policy_digest": policy.digest,
        "store": repository.store.url,
        "finished_at": format_time(now),
        "seconds": (now - parse_time(picked.started_at)).total_seconds(),
        "passed": complete and not of_snapshot and not slow,
        "sound": False if of_snapshot else True if complete else None,
        "reasons": of_snapshot + of_drill + slow,
        "planned": outcome.planned,
        "restored": outcome.restored,
        "measured": measured,
        "answered": outcome.answered,
        "checks": checks,
        "not_proven": _not_proven(policy, outcome, complete),
        "again": _again(outcome),
        "versions": _versions(outcome),
    }


def _versions(outcome: Outcome) -> dict[str, str]:
    library = {"great_expectations": outcome.planned["library"]} if outcome.planned else {}
    return {"moraine": __version__, **library, "pyarrow": pa.__version__, "python": platform.python_version()}


def _checks(outcome: Outcome) -> list[Json]:
    """All of them, each with its subject: what it is a check of."""
    failed_plans = [check for problem in outcome.problems for check in problem.get("checks") or ()]
    planned = outcome.planned["checks"] if outcome.planned else failed_plans
    found = [{"subject": "manifest", **check} for check in planned]
    for part in outcome.restored:
        detail = "; ".join(part["problems"][:3])
        found.append(_check(f"content of {part['label']}", "entries that did not come back", 0, part["lost"], detail))
    for verdict in outcome.validated:
        found += [{"subject": verdict["label"], **check} for check in verdict["checks"]]
    if outcome.answered:
        answer = outcome.answered
        said = answer["said"].strip()[-500:]
        found.append(_check("application", f"{answer['what']} answers", 0, answer["code"], said))
    if outcome.measured and outcome.measured["rto_seconds"] is not None:
        measured = outcome.measured
        forecast, promised = round(measured["forecast_seconds"], 1), measured["rto_seconds"]
        found.append(
            _check("objective", "seconds of a full restore (rto)", f"at most {promised:g}", forecast, "")
            | {"passed": measured["within"]}
        )
    return found


def _check(subject: str, name: str, expected: Any, found: Any, detail: str) -> Json:
    passed = expected == found
    return {
        "subject": subject, "name": name, "passed": passed, "expected": expected, "found": found, "detail": detail
    }  # fmt: skip


def _told(check: Json) -> str:
    lines = check["detail"].strip().splitlines()
    # What an application says last is what ended it; of a check's detail the first is an example.
    detail = f" ({lines[-1 if check['subject'] == 'application' else 0]})" if lines else ""
    found = "killed at its time limit" if check["found"] is None else check["found"]
    return f"expected {check['expected']}, found {found}{detail}"


def _line(problem: Json) -> str:
    hint = f" ({problem['hint']})" if problem.get("hint") else ""
    return f"{problem['task']}: {problem['message']}{hint}"


def _unfinished(policy: Policy, outcome: Outcome) -> list[str]:
    """Tasks that left neither a result nor an error: they were killed, or never ran."""
    if outcome.problems:
        return []  # what comes after a task that failed does not run
    parts = len(outcome.planned["parts"]) if outcome.planned else None
    said = []
    if outcome.planned is None:
        said.append("plan left no result: it was killed")
    elif len(outcome.restored) < (parts or 0):
        said.append(f"{(parts or 0) - len(outcome.restored)} of {parts} restore tasks left no result: they were killed")
    elif outcome.items is None or len(outcome.validated) < outcome.items:
        said.append("validate left no result for some data sets: it was killed")
    elif policy.drill.run and outcome.answered is None:
        said.append("the application left no answer: its task was killed")
    elif outcome.measured is None:
        said.append("nothing was measured")
    return said


def _not_proven(policy: Policy, outcome: Outcome, complete: bool) -> list[str]:
    """What a reader might take for proven and is not."""
    said = [] if complete else ["what the tasks that did not finish would have shown"]
    said += outcome.planned["not_proven"] if outcome.planned else []
    for verdict in outcome.validated:
        said += [f"{verdict['label']}: {text}" for text in verdict["not_proven"]]
    if not policy.drill.run:
        said.append("that an application can use the data: the policy names none (drill.run)")
    if policy.objectives.rto is None:
        said.append("that a restore is fast enough: the policy promises nothing (objectives.rto)")
    return list(dict.fromkeys(said))


def _again(outcome: Outcome) -> list[str]:
    found = {path for verdict in outcome.validated for path in verdict["again"]}
    return [EVERYTHING] if EVERYTHING in found else sorted(found)
