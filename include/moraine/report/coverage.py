"""The coverage of a policy: its schedule's windows joined with the snapshots the log knows, also forgotten ones."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from moraine.engine.coverage import Capture, Coverage, State, count_gaps, cover
from moraine.engine.windows import expected_windows, first_instant
from moraine.errors import ConfigError
from moraine.model.log import LogState
from moraine.model.policy import Policy, Schedule
from moraine.model.record import dataclass
from moraine.model.window import format_time
from moraine.repository.repository import Repository


@dataclass(frozen=True, slots=True)
class CoverageReport:
    """Every window from the first asked for to the one that is running, oldest first."""

    policy: str
    cron: str
    timezone: str
    windows: tuple[Coverage, ...]

    @property
    def totals(self) -> dict[str, int]:
        """Windows in each state, also those without any."""
        counts = Counter(item.state for item in self.windows)
        return {str(state): counts[state] for state in State}

    @property
    def gaps(self) -> int:
        """Stretches of missed windows in a row."""
        return count_gaps(self.windows)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "policy": self.policy,
            "cron": self.cron,
            "timezone": self.timezone,
            "windows": [_to_dict(item) for item in self.windows],
            "totals": self.totals,
            "gaps": self.gaps,
        }


def coverage(repository: Repository, policy: Policy, *, now: datetime, start: datetime | None = None) -> CoverageReport:
    """How each window of the policy's schedule stands.

    Args:
        repository: where its snapshots are; what is forgotten is read from the log's history.
        policy: whose schedule counts.
        now: the present.
        start: windows from here on; default: from the schedule's start, or the window of the first snapshot ever.

    Raises:
        ConfigError: the policy has no schedule, so nothing is expected of it.
    """
    schedule = policy.schedule
    if schedule is None or schedule.cron is None:
        raise ConfigError(f"policy {policy.policy!r} has no schedule", hint="give it schedule.cron to expect windows")
    history = repository.log.history()
    captures = list_captures(history, policy.policy)
    begin = start or _first(schedule, captures, now)
    windows = list(expected_windows(schedule.cron, schedule.timezone, begin, now))
    sessions = [s for s in history.sessions.values() if s.policy == policy.policy]
    return CoverageReport(
        policy.policy, schedule.cron, schedule.timezone, tuple(cover(windows, captures, sessions, now))
    )


def list_captures(history: LogState, policy: str) -> list[Capture]:
    """Every snapshot of the policy that was ever committed."""
    gone = [Capture(item.record, item.reason) for item in history.forgotten.values() if item.record.policy == policy]
    return [Capture(record) for record in history.live(policy)] + gone


def _first(schedule: Schedule, captures: list[Capture], now: datetime) -> datetime:
    return first_instant(schedule) or min((capture.record.window.start for capture in captures), default=now)


def _to_dict(item: Coverage) -> dict[str, Any]:
    return {
        **item.window.to_dict(),
        "state": str(item.state),
        "snapshot": item.snapshot,
        "captured_at": format_time(item.captured_at) if item.captured_at else None,
        "reason": item.reason,
    }
