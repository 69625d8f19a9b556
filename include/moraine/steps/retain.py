"""Retain: forget the snapshots of one policy that its rules no longer keep; and forget snapshots by name.

Forgetting only writes one log entry; packs are removed by a later prune. The decision is made against the log's head
right before the entry, so a hold, a proof or a commit that came in between is never overlooked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from moraine.engine.retention import Candidate, Decision, KeepRules, is_failed, is_proven, select
from moraine.errors import RepositoryError
from moraine.model.log import LogState
from moraine.model.record import dataclass
from moraine.model.snapshot import SnapshotRecord
from moraine.model.window import format_time
from moraine.repository.repository import Repository

if TYPE_CHECKING:
    from moraine.model.policy import Policy

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Retained:
    """What stays and what went (or, on a dry run, would go), newest window first, with every reason.

    Items: snapshot, window_end, files, bytes, reasons.
    """

    policy: str
    dry_run: bool
    kept: list[dict[str, Any]]
    forgotten: list[dict[str, Any]]


def retain(repository: Repository, policy: Policy, *, clock: Clock, dry_run: bool = False) -> Retained:
    """Apply a policy's `keep` to its snapshots; without `keep` all of them stay.

    Raises:
        UnsafeRetention: the rules would keep nothing.
    """
    timezone = policy.schedule.timezone if policy.schedule else "UTC"
    return retain_by(repository, policy.policy, policy.keep, timezone=timezone, clock=clock, dry_run=dry_run)


def retain_by(
    repository: Repository, policy: str, keep: KeepRules | None, *, timezone: str, clock: Clock, dry_run: bool = False
) -> Retained:
    """Apply `keep` to the snapshots of the policy called `policy`; periods are counted in `timezone`."""
    repository.log.refresh()
    result = [_plan(repository.state, policy, keep, timezone, dry_run)]
    if dry_run or not result[0].forgotten:
        return result[0]

    def body(state: LogState) -> dict[str, Any]:
        result[0] = _plan(state, policy, keep, timezone, dry_run)
        if not result[0].forgotten:
            raise _NothingLeft
        return _body(result[0].forgotten)

    with suppress(_NothingLeft):
        repository.log.append("forget", body, now=clock())
    return result[0]


def forget(
    repository: Repository, names: Sequence[str], *, clock: Clock, dry_run: bool = False
) -> list[SnapshotRecord]:
    """Forget snapshots by id or unambiguous part of one. Returns their records.

    Raises:
        SnapshotNotFound: a name fits no snapshot, or several.
        RepositoryError: one of them is on hold.
    """
    repository.log.refresh()
    found = {record.id: record for record in (repository.find(name) for name in names)}

    def validate(state: LogState) -> None:
        for snapshot in found:
            record = state.snapshots.get(snapshot)
            if record and record.held is not None:
                raise RepositoryError(
                    f"snapshot {snapshot} is on hold: {record.held}",
                    hint=f"`moraine hold remove {snapshot}` releases it",
                )

    validate(repository.state)
    if found and not dry_run:
        items = [{"snapshot": snapshot, "reasons": ["by name"]} for snapshot in found]
        repository.log.append("forget", _body(items), now=clock(), validate=validate)
    return list(found.values())


class _NothingLeft(Exception):
    """The log went on, and there is nothing to forget any more."""


def _body(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"snapshots": [{"id": item["snapshot"], "reason": "; ".join(item["reasons"])} for item in items]}


def _plan(state: LogState, policy: str, keep: KeepRules | None, timezone: str, dry_run: bool) -> Retained:
    return _result(state, policy, _decide(state, policy, keep, timezone), dry_run)


def _decide(state: LogState, policy: str, keep: KeepRules | None, timezone: str) -> list[Decision]:
    records = sorted(state.live(policy), key=lambda record: record.captured_at)
    candidates = [Candidate(r.id, r.window.end, r.held, is_proven(r), is_failed(r)) for r in records]
    if keep is None:
        newest_first = sorted(candidates, key=lambda candidate: candidate.window_end, reverse=True)
        return [Decision(candidate.id, True, ("the policy has no keep rules",)) for candidate in newest_first]
    return select(candidates, keep, ZoneInfo(timezone))


def _result(state: LogState, policy: str, decisions: list[Decision], dry_run: bool) -> Retained:
    kept: list[dict[str, Any]] = []
    forgotten: list[dict[str, Any]] = []
    for decision in decisions:
        record = state.snapshots[decision.id]
        (kept if decision.keep else forgotten).append(
            {
                "snapshot": decision.id,
                "window_end": format_time(record.window.end),
                "files": record.files,
                "bytes": record.bytes,
                "reasons": list(decision.reasons),
            }
        )
    return Retained(policy, dry_run, kept, forgotten)
