"""Whether what was promised of recovery holds: how old the newest proven snapshot is, how long a full restore takes.

Pure. Only what was proven counts: a snapshot that nobody has restored a sample of is a hope, and one that failed its
last proof or drill is worse than none. Nothing here asks whether a run took place, so a stopped scheduler shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from datetime import datetime, timedelta
from enum import StrEnum

from moraine.model.record import dataclass
from moraine.model.snapshot import SnapshotRecord
from moraine.model.units import format_duration
from moraine.model.window import format_time

ESCALATE = 2  # times the objective


class Objective(StrEnum):
    """What can be missed."""

    RPO = "rpo"
    RTO = "rto"


@dataclass(frozen=True, slots=True)
class Miss:
    """An objective that is not met."""

    objective: Objective
    since: datetime | None  # None: it never was
    grave: bool  # by far, so that somebody else ought to hear of it
    reason: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the last drill said of a full restore."""

    drill: str
    at: datetime
    seconds: float


@dataclass(frozen=True, slots=True)
class Promise:
    """Objectives; None: nothing is promised."""

    rpo: timedelta | None = None
    rto: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a policy stands against its objectives."""

    policy: str
    promise: Promise
    snapshots: int
    newest: SnapshotRecord | None
    proven: SnapshotRecord | None  # the newest that is
    age: timedelta | None  # of what `proven` holds
    forecast: Forecast | None
    misses: tuple[Miss, ...] = field(default=())

    @property
    def met(self) -> bool:
        """Nothing that was promised is missed."""
        return not self.misses


def judge(
    policy: str, records: Sequence[SnapshotRecord], promise: Promise, forecast: Forecast | None, *, now: datetime
) -> Standing:
    """How the live snapshots `records` of a policy, and its last drill, stand against what was promised."""
    proven = max((record for record in records if is_proven(record)), key=point, default=None)
    newest = max(records, key=point, default=None)
    age = now - point(proven) if proven else None
    misses = [miss for miss in (_rpo(promise, proven, newest, now), _rto(promise, forecast)) if miss]
    return Standing(policy, promise, len(records), newest, proven, age, forecast, tuple(misses))


def is_proven(record: SnapshotRecord) -> bool:
    """Whether the last word on a snapshot is a proof or drill that passed."""
    return record.proven is not None and (record.failed is None or record.failed < record.proven)


def point(record: SnapshotRecord) -> datetime:
    """The moment that a snapshot shows: its window's end, but for a late one, which shows when it was captured."""
    return record.captured_at if record.late else min(record.captured_at, record.window.end)


def _rpo(promise: Promise, proven: SnapshotRecord | None, newest: SnapshotRecord | None, now: datetime) -> Miss | None:
    if promise.rpo is None:
        return None
    asked = f"the objective (rpo) is {format_duration(promise.rpo)}"
    if proven is None:
        found = "no snapshot is proven" if newest else "there is no snapshot"
        return Miss(Objective.RPO, None, False, f"{found}; {asked}")
    age = now - point(proven)
    if age <= promise.rpo:
        return None
    reason = f"the newest proven snapshot, {proven.id}, is {_rounded(age)} old; {asked}"
    if newest and newest.id != proven.id:
        state = "has failed its proof" if newest.failed else "is not proven"
        reason += f"; {newest.id} of {format_time(point(newest))[:16]}Z {state}"
    return Miss(Objective.RPO, point(proven) + promise.rpo, age > ESCALATE * promise.rpo, reason)


def _rto(promise: Promise, forecast: Forecast | None) -> Miss | None:
    if promise.rto is None or forecast is None or forecast.seconds <= promise.rto.total_seconds():
        return None
    needed = timedelta(seconds=forecast.seconds)
    reason = f"a full restore takes {_rounded(needed)} by drill {forecast.drill}; "
    reason += f"the objective (rto) is {format_duration(promise.rto)}"
    return Miss(Objective.RTO, forecast.at, needed > ESCALATE * promise.rto, reason)


def _rounded(length: timedelta) -> str:
    """To the second below a minute, to the minute below two days, else to the hour."""
    step = 1 if length < timedelta(minutes=1) else 60 if length < timedelta(days=2) else 3600
    return format_duration(timedelta(seconds=int(length.total_seconds()) // step * step))
