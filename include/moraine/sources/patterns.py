r"""Globs over paths, like those of .gitignore. Knows text only: no file system, no policy.

`*` and `?` stay within a name, `[a-z]` and `[!a-z]` are one character, `**` is any number of directories, `\` makes
the next character ordinary. A pattern matches at any depth; a leading `/` ties it to the root. A trailing `/` matches
directories only. A leading `!` takes back in. Matching is on text as `os.fsdecode` gives it: `?` is one character of
UTF-8, or one byte that is none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import field
from itertools import groupby

from moraine.errors import ConfigError
from moraine.model.record import dataclass

NameTest = Callable[[str, bool], bool]  # (name, is a directory) -> excluded
_ANY_DIRECTORIES = "(?:/.*)?"
_SPECIAL = re.compile(r"[*?\[\\]")


@dataclass(frozen=True, slots=True)
class Pattern:
    """One parsed pattern: which directories it looks into, and which names it means there."""

    text: str
    origin: str
    negated: bool
    directories_only: bool
    ignore_case: bool
    last: str  # glob of the name
    parent: re.Pattern[str] | None = field(compare=False)  # of "/dir"; None: any directory
    name: re.Pattern[str] = field(compare=False)

    def looks_into(self, directory: str) -> bool:
        """Whether entries right in `directory` can match ("" is the root)."""
        return self.parent is None or self.parent.fullmatch("/" + directory if directory else "") is not None

    def matches(self, name: str, is_directory: bool) -> bool:
        """Whether an entry of a directory that the pattern looks into matches."""
        return (is_directory or not self.directories_only) and self.name.fullmatch(name) is not None


def parse_pattern(text: str, *, origin: str = "policy", ignore_case: bool = False) -> Pattern:
    """Read one pattern.

    Raises:
        ConfigError: it is malformed, or cannot match anything.
    """
    negated = text.startswith("!")
    body = text[negated:]
    names = [name for name in body.split("/") if name not in ("", ".")]
    if not names:
        raise _bad(text, origin, "it names nothing")
    if ".." in names or "\0" in text:
        raise _bad(text, origin, "no path of a backup holds `..` or a NUL")
    if names[-1] == "**":  # everything below, at any depth
        names.append("*")
    anchored = body.startswith("/")
    while names[0] == "**":
        names, anchored = names[1:], False
    flags = re.DOTALL | re.IGNORECASE if ignore_case else re.DOTALL
    try:
        *above, last = [_ANY_DIRECTORIES if name == "**" else "/" + _translate(name) for name in names]
        name = re.compile(last[1:], flags)
        parent = re.compile("".join(above) if anchored else _ANY_DIRECTORIES + "".join(above), flags)
    except (ValueError, re.error) as error:
        raise _bad(text, origin, str(error)) from error
    bound = parent if anchored or above else None
    return Pattern(text, origin, negated, body.endswith("/"), ignore_case, names[-1], bound, name)


def _bad(text: str, origin: str, reason: str) -> ConfigError:
    return ConfigError(
        f"bad exclude pattern {text!r} ({origin}): {reason}",
        hint="patterns are globs like those of .gitignore; put a backslash before a special character to mean itself",
    )


def _translate(glob: str) -> str:
    """A glob of one name as a regular expression. Every piece between stars is found once, so no glob is slow."""
    pieces = [""]
    at = 0
    while at < len(glob):
        letter = glob[at]
        at += 1
        if letter == "*":
            pieces += [""] if pieces[-1] or len(pieces) == 1 else []
        elif letter == "?":
            pieces[-1] += "[^/]"
        elif letter == "[":
            at, text = _translate_class(glob, at)
            pieces[-1] += text
        elif letter == "\\":
            if at == len(glob):
                raise ValueError("nothing follows the last backslash")
            pieces[-1] += re.escape(glob[at])
            at += 1
        else:
            pieces[-1] += re.escape(letter)
    first, *middle = pieces
    if not middle:
        return first
    return first + "".join(f"(?>[^/]*?{piece})" for piece in middle[:-1]) + "[^/]*" + middle[-1]


def _translate_class(glob: str, at: int) -> tuple[int, str]:
    """The class that begins after `[`: where it ends, and its regular expression."""
    negated = glob[at : at + 1] in ("!", "^")
    at += negated
    end = glob.find("]", at + 1)  # a `]` that comes first is a member
    if end < 0:
        raise ValueError("the [ is never closed")
    members = glob[at:end]
    if members.startswith("[:"):
        raise ValueError("classes by name, such as [:alpha:], are not known")
    ranges = re.sub(r"(?s)(.)(-(.))?", lambda m: re.escape(m[1]) + ("-" + re.escape(m[3]) if m[2] else ""), members)
    return end + 1, f"(?!/)[{'^' if negated else ''}{ranges}]"


class Matcher:
    """An ordered list of patterns, the last match wins; made so that a walk asks once per directory."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        """Compile the patterns."""
        self._patterns = tuple(patterns)
        self._bound = [n for n, pattern in enumerate(self._patterns) if pattern.parent is not None]
        self._tests: dict[tuple[int, ...], NameTest | None] = {}

    def within(self, directory: bytes) -> NameTest | None:
        """The test for names right in `directory`; None when no pattern looks there."""
        text = os.fsdecode(directory)
        active = tuple(n for n in self._bound if self._patterns[n].looks_into(text))
        if active not in self._tests:
            chosen = [p for n, p in enumerate(self._patterns) if p.parent is None or n in active]
            self._tests[active] = _name_test(chosen)
        return self._tests[active]

    def decisive(self, directory: bytes, name: bytes, is_directory: bool) -> Pattern | None:
        """The pattern that decides about an entry; None when none matches."""
        above, text = os.fsdecode(directory), os.fsdecode(name)
        for pattern in reversed(self._patterns):
            if pattern.looks_into(above) and pattern.matches(text, is_directory):
                return pattern
        return None


def _name_test(patterns: list[Pattern]) -> NameTest | None:
    """One test for an ordered list: runs of patterns that say the same become one test each, the last run first."""
    runs = [(negated, _any_test(list(run))) for negated, run in groupby(patterns, key=lambda p: p.negated)]
    if len(runs) < 2:
        return runs[0][1] if runs else None
    runs.reverse()

    def test(name: str, is_directory: bool) -> bool:
        for negated, matches in runs:
            if matches(name, is_directory):
                return not negated
        return False

    return test


def _any_test(patterns: list[Pattern]) -> NameTest:
    """Whether any of the patterns matches."""
    everything = _text_test([p for p in patterns if not p.directories_only])
    directories = _text_test([p for p in patterns if p.directories_only])

    def test(name: str, is_directory: bool) -> bool:
        return everything(name) or (is_directory and directories(name))

    return test


def _text_test(patterns: list[Pattern]) -> Callable[[str], bool]:
    """The common shapes `name`, `*end` and `start*` are looked up; the rest is one regular expression."""
    names, ends, starts, rest = set(), [], [], []
    for pattern in patterns:
        glob = pattern.last
        if pattern.ignore_case:
            rest.append(pattern)
        elif not _SPECIAL.search(glob):
            names.add(glob)
        elif glob[0] == "*" and not _SPECIAL.search(glob[1:]):
            ends.append(glob[1:])
        elif glob[-1] == "*" and not _SPECIAL.search(glob[:-1]):
            starts.append(glob[:-1])
        else:
            rest.append(pattern)
    suffixes, prefixes = tuple(ends), tuple(starts)
    search = re.compile("|".join(f"(?{'i' if p.ignore_case else '-i'}:{p.name.pattern})" for p in rest), re.DOTALL)
    if not rest:
        return lambda name: name in names or name.endswith(suffixes) or name.startswith(prefixes)
    return lambda name: (
        name in names or name.endswith(suffixes) or name.startswith(prefixes) or search.fullmatch(name) is not None
    )
