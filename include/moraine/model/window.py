"""The half-open interval of time a snapshot stands for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from moraine.errors import ConfigError


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """[start, end), both aware; Airflow's data interval, or the time since the last snapshot."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ConfigError("a window needs times with a time zone", hint="write them as 2026-01-31T02:00:00Z")
        if self.end < self.start:
            raise ConfigError(f"a window cannot end ({self.end}) before it starts ({self.start})")

    def to_dict(self) -> dict[str, str]:
        """JSON form: RFC 3339 in UTC."""
        return {"start": format_time(self.start), "end": format_time(self.end)}

    @classmethod
    def from_dict(cls, data: dict[str, str]) -> Window:
        """The window of a JSON form."""
        return cls(parse_time(data["start"]), parse_time(data["end"]))


def format_time(instant: datetime) -> str:
    """RFC 3339 in UTC with microseconds, so that text order is time order."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> datetime:
    """The instant of an RFC 3339 text. Raises ConfigError."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} is not a time", hint="write it as 2026-01-31T02:00:00Z") from error
    if instant.tzinfo is None:
        raise ConfigError(f"{text!r} has no time zone", hint="add Z for UTC, or an offset like +02:00")
    return instant.astimezone(UTC)
