"""report of a drill: the verdict, kept as evidence with the repository, whatever it is.

A drill leaves three objects under `reports/drills/<snapshot>/`: a table with a row for each check, a page to look at,
and the report, which names both by digest and is written last: what a killed `report` leaves is not a drill. Then the
log says what was shown of the snapshot.
"""

from __future__ import annotations

from typing import Any

from moraine.errors import ObjectNotFound, ProofFailed
from moraine.model.policy import Policy
from moraine.model.record import dataclass
from moraine.proof.drill_page import drill_page
from moraine.repository import layout
from moraine.repository.repository import Repository
from moraine.steps.drill_evidence import evidence
from moraine.steps.drill_verdict import Outcome, judge_drill
from moraine.steps.run import Clock

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reported:
    """The verdict."""

    drill: str
    snapshot: str
    passed: bool
    sound: bool | None  # what is said of the snapshot; None: nothing
    reasons: list[str]
    checks: int
    report: str  # object key


def report_drill(
    repository: Repository, policy: Policy, outcome: Outcome, *, clock: Clock, docs: dict[str, str] | None = None
) -> Reported:
    """Judge, keep the evidence, and say it in the log; a second time it says what it said before.

    Args:
        repository: where it is kept.
        policy: the drill's.
        outcome: what the tasks came to.
        clock: the present.
        docs: pages that checks left, by name; they become part of the page.
    """
    repository.log.refresh()
    name = f"drills/{outcome.picked.snapshot}/{outcome.picked.drill}"
    key = layout.report(f"{name}.json")
    try:
        content: Json = repository.load_report(key)
    except ObjectNotFound:
        content = judge_drill(repository, policy, outcome, clock())
        _write(repository, content, name, clock, docs or {})
    _log(repository, content, key, clock)
    verdict = {field: content[field] for field in ("drill", "snapshot", "passed", "sound", "reasons")}
    return Reported(**verdict, checks=len(content["checks"]), report=key)


def require_passed(reported: Reported) -> Reported:
    """The verdict of a drill that passed. Raises ProofFailed with the first reason."""
    if not reported.passed:
        more = f" (and {len(reported.reasons) - 1} more)" if len(reported.reasons) > 1 else ""
        fate = "the snapshot is in quarantine" if reported.sound is False else "this says nothing about the snapshot"
        raise ProofFailed(
            f"the drill of snapshot {reported.snapshot} failed: {reported.reasons[0]}{more}",
            hint=f"{fate}; `moraine drill --show {reported.drill} --report FILE.html` has all of it",
            snapshot=reported.snapshot,
            report=reported.report,
            reasons=reported.reasons,
        )
    return reported


def _write(repository: Repository, content: Json, name: str, clock: Clock, docs: dict[str, str]) -> None:
    """Table and page under names of this attempt, then the report that names them."""
    attempt = repository.new_id(clock())
    content["table"] = repository.save_report_table(f"{name}-{attempt}.parquet", evidence(content))
    page = drill_page(content, docs)
    content["page"] = repository.save_report(f"{name}-{attempt}.page", {"html": page})
    repository.save_report(f"{name}.json", content)


def _log(repository: Repository, content: Json, key: str, clock: Clock) -> None:
    """What was shown of the snapshot. A sample says nothing against an earlier failure: only a whole drill does."""
    record = repository.state.snapshots.get(content["snapshot"])
    if content["sound"] is None or record is None:
        return
    if content["sound"] and record.failed and not content["whole"]:
        return
    body = {"snapshot": content["snapshot"], "report": key, "passed": content["sound"], "kind": "drill"}
    repository.log.append("prove", body, now=clock())
