"""The windows of the engine are those of Airflow's timetable."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from airflow.timetables.interval import CronDataIntervalTimetable
from pendulum import instance

from moraine.engine.windows import expected_windows

NEVER = datetime(2100, 1, 1, tzinfo=UTC)
# just before the clocks of Berlin and New York are changed, and a leap day
NEAR = [(2024, 3, 30), (2024, 10, 26), (2024, 3, 9), (2024, 11, 2), (2024, 2, 27), (2023, 12, 31)]
CRONS = [
    "30 2 * * *",
    "30 1 * * *",
    "@daily",
    "@hourly",
    "*/20 * * * *",
    "*/15 2 * * *",
    "0 */2 * * *",
    "30 1,2,3 * * *",
    "0 0 29 2 *",
    "0 3 * * 1-5",
    "0 12 1 * 5",
    "30 23 31 * *",
]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"])
@pytest.mark.parametrize("cron", CRONS)
def test_windows_are_those_of_the_timetable(cron: str, zone: str) -> None:
    timetable = CronDataIntervalTimetable(cron, timezone=zone)
    for day in NEAR:
        start = datetime(*day, tzinfo=UTC) + timedelta(minutes=30 * (day[2] % 5))
        begin = timetable._align_to_next(instance(start))
        for window in islice(expected_windows(cron, zone, start, NEVER), 30):
            end = timetable._get_next(begin)
            assert (window.start, window.end) == (begin, end)
            begin = end
