"""What is checked together when data has been restored: a data set, its checks and the verdict. Plain, JSON-able."""

from __future__ import annotations

from dataclasses import asdict, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from moraine.engine.selection import select
from moraine.model import compute as pc
from moraine.model.policy_checks import TABLES
from moraine.model.record import dataclass

FILES = "files"  # the kind of the set that holds everything
_NO_DATA = r"(?:\A|/)[_.][^/]*\z"  # _SUCCESS, .part-0.crc: what readers of tables pass over


@dataclass(frozen=True, slots=True)
class DataSet:
    """Files of one kind that a drill checks together, and what the night recorded of them."""

    name: str
    kind: str  # files, or one of a policy's file kinds
    snapshot: str
    paths: tuple[str, ...] = ()  # globs from the root; none: everything
    endings: tuple[str, ...] = ()  # lower case; none: any
    without: tuple[str, ...] = ()  # globs of what other data sets hold
    recorded: dict[str, Any] = field(default_factory=dict)  # see `data_set_plan`
    rules: dict[str, Any] = field(default_factory=dict)  # the policy's words on these files
    whole: bool = True  # all files were restored; False: a sample of them, of which no whole can be said

    def sampled(self) -> DataSet:
        """The same set when only some of its files are restored."""
        return replace(self, whole=False)

    def mask(self, paths: pa.Array) -> npt.NDArray[np.bool_]:
        """Which of these paths belong to it."""
        nowhere = np.zeros(len(paths), np.int32)
        chosen: npt.NDArray[np.bool_] = select(self.paths, self.without).mask([b""], nowhere, paths)
        if self.kind in TABLES:
            chosen &= ~_matched(paths, _NO_DATA)
        if self.endings:
            chosen &= _matched(paths, "(?i)(?:" + "|".join(map(_literal, self.endings)) + r")\z")
        return chosen

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> DataSet:
        """The data set of a JSON form."""
        return cls(**data | {name: tuple(data[name]) for name in ("paths", "endings", "without")})


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One expectation, as it turned out."""

    name: str
    passed: bool
    expected: str
    found: str
    detail: str = ""  # the first that failed, each with what was expected of it and found

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class DataSetVerdict:
    """What the checks of one data set came to."""

    name: str
    checks: list[CheckResult]
    not_proven: list[str]

    @property
    def passed(self) -> bool:
        """Every check that could be made holds."""
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self) | {"passed": self.passed}


def _matched(paths: pa.Array, regex: str) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.match_substring_regex(paths, regex).to_numpy(zero_copy_only=False), dtype=bool)


def _literal(ending: str) -> str:
    return ending.replace(".", r"\.")
