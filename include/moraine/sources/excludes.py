"""What a policy leaves out of a tree: patterns, marker files, size. Knows names and sizes; the walk applies it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import field

from moraine.errors import ConfigError
from moraine.model.entry import display_path, join_path, split_path
from moraine.model.record import dataclass
from moraine.sources.markers import CACHE, Marker, parse_marker
from moraine.sources.patterns import Matcher, Pattern, parse_pattern


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a path is in a backup, or is not."""

    included: bool
    reason: str
    rule: str | None = None  # as written in the policy or pattern file
    by: str | None = None  # the path the rule applies to: this one, or a directory above it


@dataclass(frozen=True)
class ExcludeRules:
    """Rules in effect; without any, a walk pays nothing. Make them with `build`."""

    patterns: tuple[Pattern, ...] = ()
    markers: tuple[Marker, ...] = ()
    larger_than: int | None = None
    matcher: Matcher = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "matcher", Matcher(self.patterns))

    @classmethod
    def build(
        cls,
        exclude: Iterable[str] = (),
        *,
        iexclude: Iterable[str] = (),
        files: Iterable[str | os.PathLike[str]] = (),
        if_present: Iterable[str] = (),
        caches: bool = False,
        larger_than: int | None = None,
    ) -> ExcludeRules:
        """Read rules as a policy writes them.

        Args:
            exclude: patterns in order, the last match wins.
            iexclude: patterns that ignore case; they come after `exclude` and `files`.
            files: files of patterns, one per line, `#` comments; they come after `exclude`.
            if_present: marker files, `name` or `name:header`.
            caches: leave out what CACHEDIR.TAG marks as a cache.
            larger_than: leave out regular files of more bytes.

        Raises:
            ConfigError: a pattern, marker, size or file is bad.
        """
        if larger_than is not None and larger_than < 0:
            raise ConfigError(f"larger_than is {larger_than}", hint="give a size in bytes, or leave it out")
        patterns = [parse_pattern(text) for text in exclude]
        patterns += [pattern for path in files for pattern in _read_patterns(path)]
        patterns += [parse_pattern(text, ignore_case=True) for text in iexclude]
        markers = [parse_marker(text) for text in if_present] + [CACHE] * caches
        return cls(tuple(patterns), tuple(markers), larger_than)

    def decide(self, path: bytes, *, directory: bool) -> Explanation | None:
        """What the patterns say of this very path, the directories above it aside; None when none matches."""
        pattern = self.matcher.decisive(*split_path(path), directory)
        if pattern is None:
            return None
        rule = f"{pattern.text} ({pattern.origin}{', ignoring case' if pattern.ignore_case else ''})"
        reason = "a pattern takes it back in" if pattern.negated else "matches an exclude pattern"
        return Explanation(pattern.negated, reason, rule, display_path(path))

    def explain(self, path: bytes, *, directory: bool = False) -> Explanation:
        """What the patterns alone say of a path relative to the root; `directory`: it is one."""
        decision: Explanation | None = None
        for part in parts_of(path):
            decision = self.decide(part, directory=directory or part != path)
            if decision and not decision.included:
                return decision
        return decision or INCLUDED


INCLUDED = Explanation(True, "no rule leaves it out")


def parts_of(path: bytes) -> Iterator[bytes]:
    """The directories above a path from the top, then the path itself."""
    part = b""
    for name in path.split(b"/"):
        part = join_path(part, name)
        yield part


def _read_patterns(path: str | os.PathLike[str]) -> Iterator[Pattern]:
    try:
        with open(path, "rb") as file:
            lines = file.read().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise ConfigError(
            f"cannot read the exclude file {os.fspath(path)}: {(error.strerror or str(error)).lower()}",
            hint="correct `exclude_files` in the policy; a missing list would back up more than is meant",
        ) from error
    for number, line in enumerate(lines, start=1):
        text = os.fsdecode(line.rstrip(b"\r"))
        bare = text.rstrip(" \t")
        if bare.endswith("\\") and bare != text:  # an escaped space at the end is meant
            bare = text[: len(bare) + 1]
        if bare and not bare.startswith("#"):
            yield parse_pattern(bare, origin=f"{os.fspath(path)}:{number}")
