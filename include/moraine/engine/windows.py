"""The windows a schedule expects: the same instants as Airflow's CronDataIntervalTimetable, without Airflow.

Cron fields are read on the wall clock of the schedule's time zone. A time that the clock skips in spring is taken as
much later as the clock jumps; one that it shows twice in autumn is the second. Expressions that run in every hour
count elapsed time instead, so that neither of the two equal hours is left out. Pure: no clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from croniter import CroniterBadDateError, croniter

from moraine.errors import ConfigError
from moraine.model.policy_fields import Schedule
from moraine.model.window import Window

_JUST_BEFORE = timedelta(seconds=1)


def expected_windows(cron: str, timezone: str, start: datetime, until: datetime) -> Iterator[Window]:
    """Windows that begin from `start` on, oldest first; the last is the one that is not over at `until`.

    Raises:
        ConfigError: the expression names no date that exists, such as 30 February.
    """
    zone, begin = ZoneInfo(timezone), start.astimezone(UTC)
    ticks = _ticks(cron, zone, begin - _JUST_BEFORE)
    if next(ticks) != begin:
        ticks = _ticks(cron, zone, begin)
        begin = next(ticks)
    while begin <= until:
        end = next(ticks)
        yield Window(begin, end)
        begin = end


def first_instant(schedule: Schedule) -> datetime | None:
    """Where the schedule's first day begins, in its time zone; None when it names none."""
    if schedule.start is None:
        return None
    return datetime.combine(schedule.start, time(), ZoneInfo(schedule.timezone))


def _ticks(cron: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """Every instant of the schedule after `after`, in UTC."""
    wall = _wall(after, zone)
    steps = croniter(cron, wall)
    every_hour = steps.expanded[1] == ["*"]
    while True:
        try:
            found = steps.get_next(datetime)
        except CroniterBadDateError as error:
            raise ConfigError(f"the cron expression '{cron}' names no date that exists") from error
        after = after + (found - wall) if every_hour else _instant(found, zone)
        yield after
        wall = _wall(after, zone)
        if wall != found:  # the clock was changed in between: go on from what it shows
            steps = croniter(cron, wall)


def _wall(instant: datetime, zone: ZoneInfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def _instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """The second of two equal wall times; a skipped one is as far behind the jump as it was written behind it."""
    second = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    if _wall(second, zone) == wall:
        return second
    return wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
