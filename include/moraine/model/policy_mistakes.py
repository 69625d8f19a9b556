"""The words for mistakes in a policy: where each is, what would have been right, and what was perhaps meant."""

from __future__ import annotations

import dataclasses
import difflib
import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import ValidationError

from moraine.model.policy_fields import Policy
from moraine.model.policy_types import NAMED

Loc = tuple[str | int, ...]

_KINDS = (("posix",), ("s3",))  # of sources
_UNKNOWN = "unexpected_keyword_argument"  # pydantic's word for a key that a part does not have


def mistakes(error: ValidationError) -> Iterator[tuple[Loc, str]]:
    """Where each mistake is, and a sentence about it."""
    # Misspelt keys first: a key that is missing is often one of them.
    for item in sorted(error.errors(), key=lambda item: item["type"] != _UNKNOWN):
        full: Loc = item["loc"]
        loc = _written(full)
        dotted = _dotted(loc)
        if item["type"] == _UNKNOWN:
            yield loc, _unknown(full)
        elif item["type"] == "missing":
            yield loc[:-1], f"'{dotted}' is missing"
        elif item["type"] == "union_tag_invalid":
            kinds, kind = " or ".join(repr(name) for (name,) in _KINDS), item["ctx"]["tag"]
            yield (*loc, "kind"), f"'{dotted}.kind' must be {kinds}, not {_shown(kind)}"
        elif item["type"] == "value_error" and isinstance(item["input"], dict):  # keys that do not go together
            yield loc, f"'{dotted}': {_expected(item)}"
        else:
            yield loc, f"'{dotted}' must be {_expected(item)}, not {_shown(item['input'])}"


def _written(loc: Loc) -> Loc:
    """A place without the kind of source, which pydantic puts into it."""
    return (loc[0], *loc[2:]) if loc[:1] == ("source",) and loc[1:2] in _KINDS else loc


def _dotted(loc: Loc) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "empty"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"


_EXPECTED = {
    "int": "a whole number",
    "bool": "true or false",
    "string": "text",
    "float": "a number",
    "date": "a date such as 2026-01-31",
    "tuple": "a list",
    "dict": "a mapping",
    "dataclass": "a mapping of keys",
}


def _expected(item: Any) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return str(context["expected"])
    if kind == "string_pattern_mismatch":
        return NAMED
    if kind in ("greater_than_equal", "less_than_equal"):
        return f"at {'least' if 'ge' in context else 'most'} {context.get('ge', context.get('le'))}"
    if kind == "string_too_short":
        return "text that is not empty"
    return _EXPECTED.get(kind.split("_")[0]) or str(item["msg"]).removeprefix("Input should be ").lower()


def _unknown(loc: Loc) -> str:
    key = str(loc[-1])
    known = [item.name for item in dataclasses.fields(_part_at(loc[:-1]))]
    inside = _written(loc)[:-1]
    near = difflib.get_close_matches(key, known, 1)
    elsewhere = [path for path in _all_paths(Policy) if path.rpartition(".")[2] == key]
    prefix = f"{_dotted(inside)}." if inside else ""
    guess = elsewhere[0] if elsewhere else prefix + near[0] if near else ""
    suggestion = f"; did you mean '{guess}'?" if guess else f"; known here: {', '.join(known)}"
    return f"unknown key '{prefix}{key}'{suggestion}"


def _part_at(loc: Loc) -> type:
    part: type = Policy
    options: list[type] = []
    for name in loc:
        if isinstance(name, int):
            continue
        chosen = [option for option in options if len(options) > 1 and name in get_args(_annotations(option)["kind"])]
        options = chosen or _inner(_annotations(part)[name])
        part = options[0] if options else part
    return part


def _annotations(part: type) -> dict[str, Any]:
    hints = get_type_hints(part)
    return {item.name: hints[item.name] for item in dataclasses.fields(part)}


def _inner(annotation: Any) -> list[type]:
    """The parts of a policy that a value may be."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [part for option in get_args(annotation) for part in _inner(option)]
    if get_origin(annotation) in (Annotated, tuple):
        return _inner(get_args(annotation)[0])
    return [annotation] if isinstance(annotation, type) and dataclasses.is_dataclass(annotation) else []


def _all_paths(part: type, prefix: str = "") -> Iterator[str]:
    for name, annotation in _annotations(part).items():
        yield prefix + name
        for inner in _inner(annotation):
            yield from _all_paths(inner, f"{prefix}{name}.")
