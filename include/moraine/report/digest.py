"""A policy's week in a few lines: what was made, what is missing, what was rehearsed, how it stands."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from moraine.engine.objectives import Standing, point
from moraine.model.policy import Policy
from moraine.model.units import format_duration, format_size
from moraine.model.window import parse_time
from moraine.report.coverage import coverage
from moraine.report.drills import reports
from moraine.report.status import standing
from moraine.repository.repository import Repository

WEEK = timedelta(days=7)


def digest(repository: Repository, policy: Policy, *, now: datetime) -> str:
    """The lines, for people."""
    return "\n".join(_lines(repository, policy, now))


def _lines(repository: Repository, policy: Policy, now: datetime) -> Iterator[str]:
    since = now - WEEK
    found = standing(repository, policy, now=now)
    yield from _standing_lines(found)
    made = [record for record in repository.state.live(policy.policy) if record.captured_at >= since]
    added = format_size(sum(record.stored for record in made))
    yield f"The last seven days: {len(made)} of the snapshots that are kept were made, {added} were stored for them."
    unreadable = sum(record.unreadable for record in made)
    if unreadable:
        yield f"Entries that could not be read: {unreadable}."
    if policy.schedule and policy.schedule.cron:
        totals = coverage(repository, policy, now=now, start=since).totals
        counts = [f"{count} {state.replace('_', ' ')}" for state, count in totals.items() if count]
        yield f"Windows: {', '.join(counts) or 'none'}."
    drills = [held for held in reports(repository, policy.policy) if parse_time(held["finished_at"]) >= since]
    failed = [report for report in drills if not report["passed"]]
    yield f"Drills: {len(drills)}, {len(failed)} of them failed."
    yield from (f"- {report['drill']}: {'; '.join(report['reasons'])}" for report in failed)


def _standing_lines(found: Standing) -> Iterator[str]:
    if found.misses:
        yield from (f"NOT MET: {miss.reason}." for miss in found.misses)
    elif found.promise.rpo or found.promise.rto:
        yield "All objectives are met."
    if found.newest:
        when = f"{point(found.newest):%Y-%m-%d %H:%M} UTC"
        yield f"Newest snapshot: {found.newest.id}, of {when}; {found.snapshots} are kept."
    if found.proven and found.age is not None:
        age = timedelta(minutes=found.age // timedelta(minutes=1))
        yield f"Newest proven snapshot: {found.proven.id}, {format_duration(age)} old."
