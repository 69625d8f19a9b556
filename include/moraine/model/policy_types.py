"""The kinds of values a policy may hold, how its keys are written down, and what their parts share.

A policy is plain frozen dataclasses: who has one at hand, or makes one, loads no library. `policy_file` reads files by
pydantic, which takes the types, limits and descriptions from here. Knows no key of a policy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import field, fields, is_dataclass
from datetime import date, timedelta
from typing import Annotated, Any, ClassVar

from moraine.model.record import dataclass
from moraine.model.units import parse_duration, parse_seconds, parse_share, parse_size


def about(description: str, **limits: Any) -> dict[str, Any]:
    """The metadata of a key: what it means, for people, and its limits by the names that pydantic has for them."""
    return {"description": description, **limits}


def key(default: Any, description: str, **limits: Any) -> Any:
    """A key that may be left out."""
    metadata = about(description, **limits, json_schema_extra={"default": plain(default)})
    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """How a value is read from a file: in an annotation, for pydantic.

    `parse` makes it out of what is written, `check` looks at it once it has its type; both raise ValueError.
    """

    parse: Callable[[Any], Any] | None = None
    check: Callable[[Any], Any] | None = None
    limits: Mapping[str, Any] | None = None
    schema: Mapping[str, Any] | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """What pydantic asks an annotation for."""
        from pydantic import Field
        from pydantic_core import core_schema

        made = handler.generate_schema(Annotated[source, Field(**self.limits)]) if self.limits else handler(source)
        if self.parse:
            made = core_schema.no_info_before_validator_function(self.parse, made)
        if self.check:
            made = core_schema.no_info_after_validator_function(self.check, made)
        return made

    def __get_pydantic_json_schema__(self, made: Any, handler: Any) -> Any:
        """What pydantic asks an annotation for."""
        return dict(self.schema) if self.schema else handler(made)


def _count(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a whole number")
    return value


def _written(parse: Callable[[Any], Any], description: str, example: str, *kinds: str) -> Read:
    schema = {"type": ["string", *kinds], "description": description, "examples": [example]}
    return Read(parse, schema=schema)


Size = Annotated[int, _written(parse_size, "a size: 64MiB, 1.5GB or bytes", "64MiB", "integer")]
Share = Annotated[float, _written(parse_share, "a share: 5% or 0.05", "5%", "number")]
Seconds = Annotated[float, _written(parse_seconds, "a duration: 2s, 500ms", "2s", "number")]
Duration = Annotated[timedelta, _written(parse_duration, "a duration: 7d, 36h, 1d12h", "7d")]
Count = Annotated[int, Read(_count, limits={"ge": 0})]
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
NAMED = "letters, digits, '.', '_' and '-', beginning with a letter or digit, at most 100"
Name = Annotated[str, Read(limits={"pattern": NAME})]
Text = Annotated[str, Read(limits={"min_length": 1})]
Paths = tuple[Text, ...]


def check_name(text: str) -> str:
    """The name, as it is. Raises ValueError for what no policy may be called."""
    if not re.fullmatch(NAME, text):
        raise ValueError(NAMED)
    return text


class Part:
    """Base of all parts: unknown keys refused, never changed after it was read."""

    __slots__ = ()
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}


def plain(value: Any) -> Any:
    """A policy, or a part of it, as it would be written into JSON."""
    if is_dataclass(value):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.15g}s"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, tuple | list) else value
