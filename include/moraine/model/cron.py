"""Cron expressions: checked when a policy is read, and said in English.

Owns the spelling of the five fields. Knows nothing of time zones or windows: Airflow's timetable evaluates them.
"""

from __future__ import annotations

import re

_PRESETS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_FULL_DAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_FIELDS: list[tuple[str, int, int, list[str]]] = [
    ("minute", 0, 59, []),
    ("hour", 0, 23, []),
    ("day of month", 1, 31, []),
    ("month", 1, 12, ["", *_MONTHS]),
    ("day of week", 0, 7, _DAYS),
]
_RANGE = re.compile(r"^(?:(\*)|([0-9a-z]+)(?:-([0-9a-z]+))?)(?:/([0-9]+))?$")


def check_cron(text: str) -> str:
    """Return the expression with its blanks tidied. Raises ValueError naming the field that is wrong."""
    fields = _PRESETS.get(text.strip().lower(), text).split()
    if len(fields) != 5:
        raise ValueError("five cron fields (minute hour day month weekday) or one of " + ", ".join(_PRESETS))
    for field, (name, low, high, names) in zip(fields, _FIELDS, strict=True):
        for part in field.lower().split(","):
            if not _in_range(part, low, high, names):
                raise ValueError(f"a cron expression (its {name}, {field!r}, is none of {low} to {high})")
    return text.strip() if text.strip().startswith("@") else " ".join(fields)


def _in_range(part: str, low: int, high: int, names: list[str]) -> bool:
    match = _RANGE.match(part)
    if match is None or match[4] == "0":
        return False
    ends = [_number(end, names) for end in match.group(2, 3) if end is not None]
    return all(low <= end <= high for end in ends) and ends == sorted(ends)


def _number(text: str, names: list[str]) -> int:
    return int(text) if text.isdigit() else names.index(text) if text in names else -1


def say_cron(text: str) -> str:
    """`every day at 02:30`; expressions that are not one of the usual shapes are quoted as they are."""
    minute, hour, day, month, weekday = _PRESETS.get(text.lower(), text).lower().split()
    if (day, month, weekday) == ("*", "*", "*") and (often := _often(minute, hour)):
        return often
    if not (minute.isdigit() and hour.isdigit() and month == "*"):
        return f"at the times of the cron expression '{text}'"
    at = f"at {int(hour):02}:{int(minute):02}"
    if day == "*" and weekday == "*":
        return f"every day {at}"
    if day == "*" and (days := _say_days(weekday)):
        return f"{days} {at}"
    if weekday == "*" and day.isdigit():
        return f"on day {day} of every month {at}"
    return f"at the times of the cron expression '{text}'"


def _often(minute: str, hour: str) -> str | None:
    if hour == "*" and minute.isdigit():
        return f"every hour at :{int(minute):02}"
    if hour == "*" and minute in ("*", "*/1"):
        return "every minute"
    if hour == "*" and minute.startswith("*/"):
        return f"every {minute[2:]} minutes"
    if hour.startswith("*/") and minute.isdigit():
        return f"every {hour[2:]} hours at :{int(minute):02}"
    return None


def _say_days(weekday: str) -> str | None:
    if weekday in ("1-5", "mon-fri"):
        return "Monday to Friday"
    numbers = [_number(part, _DAYS) for part in weekday.split(",")]
    if any(not 0 <= number <= 7 for number in numbers):
        return None
    return "every " + " and ".join(_FULL_DAYS[number] for number in numbers)
