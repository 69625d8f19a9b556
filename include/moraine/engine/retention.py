"""Which snapshots a set of keep rules keeps, and why. Pure: the same snapshots and rules always decide the same.

Rules count windows, never a worker's clock: a snapshot belongs to the hour, day, ISO week, month or year in which its
window's last instant lies in the policy's time zone (windows are half-open, so one that ends at midnight belongs to
the day before), and `within` counts back from the newest window. The newest snapshot, the last proven one and those
on hold are kept whatever the rules say.

A snapshot that failed its proof or drill takes no other's place: the rules are applied twice, to all snapshots and to
the sound ones alone, and what either keeps stays. So marking one as failed never makes another one go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Protocol

from moraine.errors import UnsafeRetention
from moraine.model.record import dataclass
from moraine.model.snapshot import SnapshotRecord
from moraine.model.units import format_duration

_INSTANT = timedelta(microseconds=1)


class KeepRules(Protocol):
    """What `select` reads of a policy's `keep`."""

    @property
    def last(self) -> int | None:
        """The newest N."""

    @property
    def hourly(self) -> int | None:
        """One for each of the N latest hours that have one; likewise the next four."""

    @property
    def daily(self) -> int | None:
        """Days."""

    @property
    def weekly(self) -> int | None:
        """ISO weeks."""

    @property
    def monthly(self) -> int | None:
        """Months."""

    @property
    def yearly(self) -> int | None:
        """Years."""

    @property
    def within(self) -> timedelta | None:
        """All whose window ends at most this long before the newest window's end."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A live snapshot as retention sees it; `held` is the reason of its hold."""

    id: str
    window_end: datetime
    held: str | None = None
    proven: bool = False
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """Keep a snapshot or forget it, with every reason."""

    id: str
    keep: bool
    reasons: tuple[str, ...]


_PERIODS: dict[str, Callable[[datetime], tuple[int, ...]]] = {
    # The offset tells the two hours apart that share a name when summer time ends.
    "hourly": lambda t: (t.year, t.month, t.day, t.hour, int((t.utcoffset() or timedelta()).total_seconds())),
    "daily": lambda t: (t.year, t.month, t.day),
    "weekly": lambda t: tuple(t.isocalendar()[:2]),
    "monthly": lambda t: (t.year, t.month),
    "yearly": lambda t: (t.year,),
}


def select(candidates: Iterable[Candidate], keep: KeepRules, timezone: tzinfo) -> list[Decision]:
    """One decision per candidate, newest window first; of equal windows the one given later is newer.

    Raises:
        UnsafeRetention: no rule keeps anything, or a rule is negative.
    """
    _require_safe(keep)
    newest_first = [c for _, c in sorted(enumerate(candidates), key=lambda item: (item[1].window_end, item[0]))][::-1]
    sound = [candidate for candidate in newest_first if not candidate.failed]
    reasons: dict[str, list[str]] = {candidate.id: [] for candidate in newest_first}
    if newest_first:
        reasons[newest_first[0].id].append("newest")
    if sound and sound[0] != newest_first[0]:
        reasons[sound[0].id].append("newest that has not failed")
    proven = next((candidate for candidate in newest_first if candidate.proven), None)
    if proven:
        reasons[proven.id].append("last proven")
    for candidate in newest_first:
        if candidate.held is not None:
            reasons[candidate.id].append(f"held: {candidate.held}")
    for candidate, reason in _by_rules(sound, keep, timezone):
        reasons[candidate.id].append(reason)
    if len(sound) < len(newest_first):
        for candidate, reason in _by_rules(newest_first, keep, timezone):
            if candidate.failed:
                reasons[candidate.id].append(f"{reason}, beside a sound one: it has failed")
            elif not reasons[candidate.id]:
                reasons[candidate.id].append(reason)
    dropped = (f"no rule keeps it ({describe(keep)})",)
    return [Decision(c.id, bool(reasons[c.id]), tuple(reasons[c.id]) or dropped) for c in newest_first]


def is_proven(record: SnapshotRecord) -> bool:
    """Whether the last thing known of a snapshot is that a proof passed."""
    return record.proven is not None and (record.failed is None or record.failed < record.proven)


def is_failed(record: SnapshotRecord) -> bool:
    """Whether a proof or drill of a snapshot failed, and none has passed since: it is in quarantine."""
    return record.failed is not None and not is_proven(record)


def describe(keep: KeepRules) -> str:
    """The rules in short: `daily 7, weekly 4, within 1 day 12 hours`."""
    counts = [f"{rule} {count}" for rule in ("last", *_PERIODS) if (count := getattr(keep, rule))]
    return ", ".join([*counts, *([f"within {format_duration(keep.within)}"] if keep.within else [])])


def _require_safe(keep: KeepRules) -> None:
    values = {rule: getattr(keep, rule) for rule in ("last", *_PERIODS)}
    wrong = next((rule for rule, count in values.items() if count is not None and count < 0), None)
    if wrong or (keep.within is not None and keep.within < timedelta()):
        raise UnsafeRetention(f"the keep rule {wrong or 'within'} is negative", hint="give a number from 0 up")
    if not any(values.values()) and not keep.within:
        raise UnsafeRetention(
            "keep has no rule that keeps a snapshot",
            hint="give at least one of last, hourly, daily, weekly, monthly, yearly, within",
        )


def _by_rules(newest_first: Sequence[Candidate], keep: KeepRules, timezone: tzinfo) -> Iterable[tuple[Candidate, str]]:
    last = keep.last or 0
    for number, candidate in enumerate(newest_first[:last], start=1):
        yield candidate, f"last {number} of {last}"
    for rule, period in _PERIODS.items():
        count = getattr(keep, rule) or 0
        seen: set[tuple[int, ...]] = set()
        for candidate in newest_first:
            bucket = period((candidate.window_end - _INSTANT).astimezone(timezone))
            if len(seen) < count and bucket not in seen:
                seen.add(bucket)
                yield candidate, f"{rule} {len(seen)} of {count}"
    if keep.within and newest_first:
        oldest = newest_first[0].window_end - keep.within
        for candidate in newest_first:
            if candidate.window_end >= oldest:
                yield candidate, f"within {format_duration(keep.within)} of the newest"
