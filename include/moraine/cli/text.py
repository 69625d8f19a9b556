"""Tables, times and counts as people read them on a terminal. Pure: values in, lines out."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache

GAP = "  "


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = ()) -> Iterator[str]:
    """Lines of a table whose columns are as wide as their widest cell; columns named in `right` align there."""
    body = [list(head), *(list(row) for row in rows)]
    widths = [max(width(row[i]) for row in body) for i in range(len(head))]
    rights = {i for i, name in enumerate(head) if name in set(right)}
    for row in body:
        cells = [pad(cell, widths[i], right=i in rights) for i, cell in enumerate(row)]
        yield GAP.join(cells).rstrip()


def pairs(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Lines of `name  value`, names padded to one width."""
    found = list(rows)
    widest = max((width(name) for name, _ in found), default=0)
    for name, value in found:
        yield f"{pad(name, widest)}{GAP}{value}".rstrip()


def pad(text: str, to: int, *, right: bool = False) -> str:
    """Text filled up with blanks to a width in terminal cells."""
    blanks = " " * max(0, to - width(text))
    return blanks + text if right else text + blanks


def width(text: str) -> int:
    """Terminal cells a text takes: none for combining marks, two for wide letters."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def show_time(moment: datetime | None, *, seconds: bool = True) -> str:
    """`2026-01-31 03:00:00+01:00` in the machine's zone, `…Z` where that is UTC; a dash for none."""
    if moment is None:
        return "-"
    try:
        local = moment.astimezone()
    except (OverflowError, ValueError, OSError):
        local = moment.astimezone(UTC)
    shown = local.isoformat(" ", "seconds" if seconds else "minutes")
    return shown.replace("+00:00", "Z")


def plural(count: int, word: str, words: str | None = None) -> str:
    """`1 file`, `1,234 files`."""
    return f"{count:,} {word if count == 1 else words or word + 's'}"


def show_ratio(ratio: float | None) -> str:
    """`3.2×`; a dash where there is nothing to divide by."""
    return "-" if ratio is None else f"{ratio:.1f}×" if ratio < 100 else f"{ratio:,.0f}×"


_KINDS = {
    "file": "-",
    "directory": "d",
    "symlink": "l",
    "fifo": "p",
    "character-device": "c",
    "block-device": "b",
    "socket": "s",
}


@lru_cache(maxsize=1024)
def show_mode(kind: str, mode: int) -> str:
    """`drwxr-sr-x`."""
    letters = [letter if mode >> (8 - i) & 1 else "-" for i, letter in enumerate("rwxrwxrwx")]
    for at, bit, letter in ((2, 0o4000, "s"), (5, 0o2000, "s"), (8, 0o1000, "t")):
        if mode & bit:
            letters[at] = letter if letters[at] == "x" else letter.upper()
    return _KINDS.get(kind, "?") + "".join(letters)
