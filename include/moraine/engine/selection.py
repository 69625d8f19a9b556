r"""Which entries of a snapshot a person asked for. Pure: globs and paths against names, column by column.

Globs are relative to the root and match from there, but for a single name with wildcards (`*.csv`), which is meant at
any depth: `*` and `?` stay inside one name, `**` crosses directories, `[…]` and `[!…]` are sets, `\` makes the next
character ordinary. What matches is meant with all that is in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from moraine.engine.globs import glob_regex
from moraine.errors import ConfigError
from moraine.model import compute as pc
from moraine.model.entry import split_path
from moraine.model.record import dataclass

Mask = npt.NDArray[np.bool_]

_SPECIAL = re.compile(rb"[*?\[\\]")


@dataclass(frozen=True)
class Selection:
    """The entries asked for; make it with `select`."""

    include: tuple[bytes, ...] = ()  # globs; none: everything
    exclude: tuple[bytes, ...] = ()
    paths: tuple[bytes, ...] | None = None  # exactly these entries, nothing in them
    under: bytes = b""  # a directory or entry that holds everything asked for
    _include: str | None = field(default=None, repr=False)
    _exclude: str | None = field(default=None, repr=False)

    @property
    def everything(self) -> bool:
        """No entry is left out by what was asked for; some may be excluded."""
        return self._include is None and self.paths is None

    @property
    def subtrees(self) -> bool:
        """Whether every glob means whole subtrees by their path, so that what is beside the snapshot is meant too."""
        return self.paths is None and not any(_SPECIAL.search(glob) for glob in self.include)

    def mask(self, directories: Sequence[bytes], numbers: npt.NDArray[np.int32], names: pa.Array) -> Mask:
        """Whether each row is asked for; row i stands in `directories[numbers[i]]`."""
        if self.everything and self._exclude is None:
            return np.ones(len(numbers), bool)
        paths = _join(directories, numbers, names)
        if self.paths is not None:
            return np.asarray(pc.is_in(paths, value_set=pa.array(self.paths, pa.binary())))
        chosen = np.ones(len(numbers), bool) if self._include is None else _match(paths, self._include)
        return chosen if self._exclude is None else chosen & ~_match(paths, self._exclude)

    def covers(self, directory: bytes) -> bool:
        """Whether a directory is asked for with all that is in it, also what the snapshot does not have."""
        if self.paths is not None or (directory and self._exclude and self.excludes(directory)):
            return False
        return self._include is None or bool(_match(pa.array([directory], pa.binary()), self._include)[0])

    def excludes(self, path: bytes) -> bool:
        """Whether a path is left out on purpose."""
        return self._exclude is not None and bool(_match(pa.array([path], pa.binary()), self._exclude)[0])


def select(
    include: Sequence[str | bytes] = (), exclude: Sequence[str | bytes] = (), paths: Iterable[bytes] | None = None
) -> Selection:
    """Read what was asked for.

    Args:
        include: globs; none, `/` or `**` mean everything.
        exclude: globs of what to leave out of that.
        paths: instead of globs, exactly these entries.

    Raises:
        ConfigError: a glob is malformed or leads outside.
    """
    wanted, left_out = tuple(map(_normal, include)), tuple(map(_normal, exclude))
    if b"" in left_out:
        raise ConfigError("everything is excluded", hint="exclude a part of the tree, or restore nothing at all")
    regex = None if not wanted or b"" in wanted else _regex(wanted)
    if paths is not None:
        if include:
            raise ConfigError("both globs and exact paths are given", hint="give one of them")
        exact = tuple(paths)
        return Selection((), left_out, exact, _common([split_path(path)[0] for path in exact]), None, _regex(left_out))
    under = _common([_literal(glob) for glob in wanted]) if regex else b""
    return Selection(wanted if regex else (), left_out, None, under, regex, _regex(left_out))


def _normal(glob: str | bytes) -> bytes:
    text = glob if isinstance(glob, bytes) else glob.encode("utf-8", "surrogateescape")
    names = [name for name in text.split(b"/") if name not in (b"", b".")]
    if b".." in names or b"\0" in text:
        raise ConfigError(f"bad glob {glob!r}: no path of a snapshot holds `..` or a NUL", hint="begin at its root")
    while names and names[-1] == b"**":
        names.pop()
    if b"/" not in text and names and any(letter in text for letter in b"*?["):
        names.insert(0, b"**")
    return b"/".join(names)


def _literal(glob: bytes) -> bytes:
    """The part of a glob before the first name that is not plain."""
    names: list[bytes] = []
    for name in glob.split(b"/"):
        if _SPECIAL.search(name):
            break
        names.append(name)
    return b"/".join(names)


def _common(paths: Sequence[bytes]) -> bytes:
    """The deepest path that is a beginning of all, name by name."""
    split = [path.split(b"/") if path else [] for path in paths]
    if not split:
        return b""
    low, high = min(split), max(split)
    count = 0
    while count < min(len(low), len(high)) and low[count] == high[count]:
        count += 1
    return b"/".join(low[:count])


def _regex(globs: Sequence[bytes]) -> str | None:
    """One anchored expression over bytes as Latin-1: any of the globs, or something below what it matches."""
    if not globs:
        return None
    return rf"(?s)\A(?:{'|'.join(map(glob_regex, globs))})(?:/.*)?\z"


def _join(directories: Sequence[bytes], numbers: npt.NDArray[np.int32], names: pa.Array) -> pa.Array:
    prefixes = pa.array([directory + b"/" if directory else b"" for directory in directories], pa.binary())
    return pc.binary_join_element_wise(prefixes.take(pa.array(numbers)), names, pa.scalar(b"", pa.binary()))


def _match(paths: pa.Array, regex: str) -> Mask:
    return np.asarray(pc.match_substring_regex(paths, regex).to_numpy(zero_copy_only=False), dtype=bool)
