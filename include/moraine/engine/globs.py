r"""Globs over paths as regular expressions for columns of bytes. Pure text; knows no rows.

`*` and `?` stay inside one name, `**` crosses directories, `[…]` and `[!…]` are sets of bytes, `\\` makes the next
character ordinary. The expressions are meant for Arrow's engine over binary columns, where bytes are Latin-1.
"""

from __future__ import annotations

import re

import pyarrow as pa

from moraine.errors import ConfigError
from moraine.model import compute as pc

_TOKEN = re.compile(r"(?s)\*\*/|/\*\*|\*\*|\*|\?|\[[!^]?\]?[^\]]*\]|\\.|.")
_MEANING = {
    "**/": "(?:.*/)?",
    "/**": "/.*",
    "**": ".*",
    "*": "[^/]*",
    "?": r"(?:[\xc2-\xf4][\x80-\xbf]+|[^/])",  # one character, of UTF-8 where it is that
}


def glob_regex(glob: bytes) -> str:
    """The expression of one glob, without anchors. Raises ConfigError."""
    regex = "".join(_piece(found[0]) for found in _TOKEN.finditer(glob.decode("latin-1")))
    try:
        pc.match_substring_regex(pa.array([b""]), regex)
    except pa.ArrowInvalid as error:
        raise ConfigError(f"bad glob {glob.decode('utf-8', 'backslashreplace')!r}: {error}") from error
    return regex


def _piece(token: str) -> str:
    if token in _MEANING:
        return _MEANING[token]
    if token.startswith("[") and len(token) > 1:
        negated = token[1] in "!^"
        inside = re.sub(r"(?s)[^a-zA-Z0-9-]", lambda found: _byte(found[0]), token[2 if negated else 1 : -1])
        return f"[^/{inside}]" if negated else f"[{inside}]"
    return _byte(token[1] if token.startswith("\\") and len(token) == 2 else token)


def _byte(letter: str) -> str:
    return letter if letter.isascii() and letter.isalnum() else f"\\x{ord(letter):02x}"
