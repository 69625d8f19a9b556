"""The kinds of values a policy may hold, and the base of its parts. Knows no key of a policy."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from moraine.model.units import parse_duration, parse_seconds, parse_share, parse_size


def _count(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a whole number")
    return value


def _written(description: str, example: str, *kinds: str) -> WithJsonSchema:
    return WithJsonSchema({"type": ["string", *kinds], "description": description, "examples": [example]})


Size = Annotated[int, BeforeValidator(parse_size), _written("a size: 64MiB, 1.5GB or bytes", "64MiB", "integer")]
Share = Annotated[float, BeforeValidator(parse_share), _written("a share: 5% or 0.05", "5%", "number")]
Seconds = Annotated[float, BeforeValidator(parse_seconds), _written("a duration: 2s, 500ms", "2s", "number")]
Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(lambda value: f"{value.total_seconds():g}s", return_type=str),
    _written("a duration: 7d, 36h, 1d12h", "7d"),
]
Count = Annotated[int, BeforeValidator(_count), Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Paths = tuple[Annotated[str, Field(min_length=1)], ...]


class Part(BaseModel):
    """Base of all parts: unknown keys refused, never changed after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True)
