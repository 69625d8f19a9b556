"""How policies stand against their objectives, from repository and policy alone: no run, no scheduler has to exist."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from moraine.engine.objectives import Forecast, Promise, Standing, judge, point
from moraine.model.policy import Policy
from moraine.model.snapshot import SnapshotRecord
from moraine.model.window import format_time, parse_time
from moraine.report.drills import last_measured
from moraine.repository.repository import Repository


def standing(repository: Repository, policy: Policy, *, now: datetime) -> Standing:
    """How a policy stands at `now`. Reads the log's state, and the last drill's report where an RTO is promised."""
    promise = Promise(policy.objectives.rpo, policy.objectives.rto)
    forecast = _forecast(repository, policy.policy) if promise.rto else None
    return judge(policy.policy, repository.state.live(policy.policy), promise, forecast, now=now)


def to_dict(found: Standing) -> dict[str, Any]:
    """JSON form; durations in seconds."""
    return {
        "policy": found.policy,
        "met": found.met,
        "rpo": found.promise.rpo.total_seconds() if found.promise.rpo else None,
        "rto": found.promise.rto.total_seconds() if found.promise.rto else None,
        "snapshots": found.snapshots,
        "newest": _record(found.newest),
        "proven": _record(found.proven),
        "age": round(found.age.total_seconds()) if found.age is not None else None,
        "forecast": round(found.forecast.seconds) if found.forecast else None,
        "misses": [
            {
                "objective": str(miss.objective),
                "since": format_time(miss.since) if miss.since else None,
                "grave": miss.grave,
                "reason": miss.reason,
            }
            for miss in found.misses
        ],
        "error": None,
    }


def _record(record: SnapshotRecord | None) -> dict[str, Any] | None:
    return {"snapshot": record.id, "point": format_time(point(record))} if record else None


def _forecast(repository: Repository, policy: str) -> Forecast | None:
    report = last_measured(repository, policy)
    if report is None:
        return None
    return Forecast(report["drill"], parse_time(report["finished_at"]), report["measured"]["forecast_seconds"])
