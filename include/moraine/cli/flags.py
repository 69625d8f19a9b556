"""Types of flag values: what argparse calls on a word, with a readable complaint when it is wrong."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from datetime import date
from typing import TypeVar

from moraine.model.units import parse_duration, parse_share, parse_size

T = TypeVar("T")


def positive(text: str) -> int:
    """A whole number from 1 up."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 up")
    return int(text)


def count(text: str) -> int:
    """A whole number from 0 up."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return int(text)


def unit(parser: Callable[[str], T]) -> Callable[[str], T]:
    """A value with a unit: one of the parsers of `model.units`, whose sentence becomes argparse's complaint."""

    def parse(text: str) -> T:
        try:
            return parser(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not {error}") from error

    return parse


size = unit(parse_size)
duration = unit(parse_duration)
share = unit(parse_share)


def path_in_snapshot(text: str) -> bytes:
    """A path as manifests have it: relative to the root, the exact bytes that were typed."""
    parts = [part for part in os.fsencode(text).split(b"/") if part not in (b"", b".")]
    return b"/".join(parts)


def percent(text: str) -> float:
    """The share of a percentage: 5, 5% and 0.5% are all percentages."""
    try:
        return parse_share(text.removesuffix("%") + "%")
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage from 0 to 100") from error


def timezone(text: str) -> str:
    """An IANA time zone."""
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(text)
    except (OSError, ValueError, KeyError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time zone such as Europe/Berlin") from error
    return text


def day(text: str) -> date:
    """2026-01-31."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day such as 2026-01-31") from None
