"""Why a path of a POSIX tree is in a backup or not, by rules and file system together. Knows no rows."""

from __future__ import annotations

import os
import stat
from contextlib import closing

from moraine.errors import ConfigError
from moraine.model.entry import display_path, split_path
from moraine.model.record import dataclass
from moraine.sources.descent import Descent
from moraine.sources.excludes import INCLUDED, ExcludeRules, Explanation, parts_of
from moraine.sources.markers import find_marker
from moraine.sources.os_errors import UNLINKED, source_error


@dataclass(frozen=True, slots=True)
class _Tree:
    root: bytes
    rules: ExcludeRules
    one_file_system: bool


def explain(
    root: bytes, path: str | bytes | os.PathLike[str], rules: ExcludeRules, *, one_file_system: bool
) -> Explanation:
    """The first thing that leaves the path, or a directory above it, out; or that nothing does.

    Raises:
        ConfigError: the path is not below the root.
        SourceDenied, SourceError: the way to it cannot be looked at.
    """
    tree, relative = _Tree(root, rules, one_file_system), _relative(root, os.fsencode(path))
    if not relative:
        return INCLUDED
    taken_in: Explanation | None = None
    try:
        with closing(Descent(root)) as descent:
            for part in parts_of(relative):
                found = _decide(tree, descent, part, last=part == relative)
                if found and not found.included:
                    return found
                taken_in = found
    except OSError as error:
        raise source_error(error, relative, "look at") from error
    return taken_in or INCLUDED


def _decide(tree: _Tree, descent: Descent, path: bytes, *, last: bool) -> Explanation | None:
    """What decides about this entry, given that the directory above it is in."""
    above, name = split_path(path)
    fd = descent.enter(above)
    shown_above = display_path(above) or "."
    marker = find_marker(fd, tree.rules.markers)
    if marker and name != marker.name:
        return Explanation(False, "its directory holds a marker file", display_path(marker.name), shown_above)
    if tree.one_file_system and os.stat(fd).st_dev != os.stat(tree.root).st_dev:
        return Explanation(False, "is on another file system", "one_file_system", shown_above)
    try:
        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except OSError as error:
        if error.errno not in UNLINKED:
            raise
        found = None
    directory = not last or (found is not None and stat.S_ISDIR(found.st_mode))
    decision = tree.rules.decide(path, directory=directory)
    if decision and not decision.included:
        return decision
    if found is None:
        return Explanation(False, "is not there", None, display_path(path))
    if not last and not stat.S_ISDIR(found.st_mode):
        return Explanation(False, "is no directory", None, display_path(path))
    limit = tree.rules.larger_than
    if limit is not None and stat.S_ISREG(found.st_mode) and found.st_size > limit:
        return Explanation(False, f"has {found.st_size} bytes", f"larger than {limit}", display_path(path))
    return decision


def _relative(root: bytes, path: bytes) -> bytes:
    if path.startswith(b"/"):
        top = os.path.abspath(root)
        if os.path.commonpath([top, os.path.normpath(path)]) != top:
            raise ConfigError(
                f"{display_path(path)} is not below {display_path(root)}",
                hint="give a path relative to the source's root, or an absolute one below it",
            )
        path = os.path.relpath(path, top)
    path = os.path.normpath(path)
    if path == b".." or path.startswith(b"../"):
        raise ConfigError(f"{display_path(path)} is not below {display_path(root)}", hint="leave out the `..`")
    return b"" if path == b"." else path
