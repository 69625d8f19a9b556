"""Sizes, durations and shares as people write them (`64MiB`, `7d`, `0.1%`), and back as text.

Owns the spelling of numbers with units. Knows nothing of policies or of what the numbers are for.
Every function raises `ValueError` with a sentence that says what would have been right.
"""

from __future__ import annotations

import re
from datetime import timedelta

_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_SIZE = re.compile(rf"^{_NUMBER}\s*([A-Za-z]*)$")
_SIZES = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgtp", start=1):
    _SIZES |= {f"{_letter}ib": 1024**_power, f"{_letter}b": 1000**_power}

_DURATION = re.compile(rf"{_NUMBER}\s*([a-z]+)\s*")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800, "y": 365 * 86400}
_STEPS = [("week", 604800), ("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)]


def parse_size(value: object) -> int:
    """Bytes of `64MiB`, `1.5 GB`, `4096`."""
    match = _SIZE.match(str(value).strip()) if isinstance(value, str | int) and not isinstance(value, bool) else None
    factor = _SIZES.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError("a size such as 64MiB, 1.5GB or a number of bytes")
    return int(float(match[1]) * factor) if "." in match[1] else int(match[1]) * factor


def parse_duration(value: object) -> timedelta:
    """The duration of `7d`, `36h`, `1d12h`, `500ms`; units ms, s, m or min, h, d, w, y (365 days)."""
    if isinstance(value, timedelta):
        return value
    text = value.strip().lower() if isinstance(value, str) else ""
    parts = _DURATION.findall(text)
    whole = "".join(match[0] for match in _DURATION.finditer(text))
    if not parts or whole != text or any(unit not in _SECONDS for _, unit in parts):
        raise ValueError("a duration such as 7d, 36h, 90min or 500ms (units ms, s, min, h, d, w, y)")
    try:
        return timedelta(seconds=sum(float(number) * _SECONDS[unit] for number, unit in parts))
    except OverflowError as error:
        raise ValueError("a duration of less than a million years") from error


def parse_seconds(value: object) -> float:
    """Seconds of a duration, or of a bare number, which counts as seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    return parse_duration(value).total_seconds()


def parse_share(value: object) -> float:
    """A share between 0 and 1 of `0.1%`, `5 %` or `0.05`."""
    text = str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    percent = text.endswith("%")
    try:
        share = float(text.removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError("a share such as 5% or 0.05, from 0 to 100%")
    return share


def format_size(size: float) -> str:
    """`1.2 GiB`: binary units, three digits at most; exact below 1 KiB."""
    amount, sign = abs(size), "-" if size < 0 else ""
    if amount < 1024:
        return f"{sign}{int(amount)} B"
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        amount /= 1024
        if amount < 1023.5 or unit == "PiB":
            break
    return f"{sign}{amount:.0f} {unit}" if amount >= 99.95 else f"{sign}{amount:.1f} {unit}"


def format_duration(duration: timedelta) -> str:
    """`1 day 12 hours`: at most two units, the largest first."""
    left = duration.total_seconds()
    if 0 < left < 1:
        return f"{left * 1000:.0f} ms"
    words = []
    for name, seconds in _STEPS:
        if name == "week" and left % seconds:
            continue
        count, left = divmod(left, seconds)
        if count:
            words.append(f"{int(count)} {name}{'s' if count != 1 else ''}")
    return " ".join(words[:2]) or "0 seconds"


def format_share(share: float) -> str:
    """`0.1%`."""
    return f"{share * 100:.4g}%"
