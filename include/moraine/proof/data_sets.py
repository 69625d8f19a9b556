"""The data sets of a snapshot: what restored data has to be like beyond being the same bytes.

A data set is planned from the repository alone, before anything is restored, and judged in the restored tree: so a
drill compares with what was recorded that night and not with today's source.
"""

from __future__ import annotations

import os
import stat
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from moraine.model.policy import Policy
from moraine.model.snapshot import Snapshot
from moraine.repository.repository import Repository


@dataclass(frozen=True, slots=True)
class DataSet:
    """What is judged together."""

    name: str
    kind: str
    snapshot: str
    recorded: dict[str, Any] = field(default_factory=dict)
    whole: bool = True  # False: a sample of its files is restored

    def sampled(self) -> DataSet:
        """The same set when only some of its files are restored."""
        return replace(self, whole=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> DataSet:
        """The data set of a JSON form."""
        return cls(**data)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One thing that was looked at."""

    name: str
    passed: bool
    expected: str
    found: str
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class DataSetVerdict:
    """What a data set came to."""

    name: str
    checks: list[CheckResult]
    not_proven: list[str]


def plan_data_sets(repository: Repository, snapshot: Snapshot, policy: Policy) -> list[DataSet]:
    """The data sets of a snapshot."""
    del repository, policy
    recorded = {"files": snapshot.totals.files - snapshot.totals.unreadable, "bytes": snapshot.totals.bytes}
    return [DataSet("all files", "files", snapshot.id, recorded)]


def validate_data_set(
    root: Path, data_set: DataSet, *, scratch: Path, docs: Path | None, repository: Repository | None = None
) -> DataSetVerdict:
    """Judge a data set in the tree restored under `root`.

    Args:
        root: the restored tree, or a sample of it.
        data_set: as planned.
        scratch: a directory for what the judge has to write.
        docs: where pages about the verdict may be left.
        repository: where the snapshot is.
    """
    del scratch, docs, repository
    if not data_set.whole:
        return DataSetVerdict(data_set.name, [], ["count and bytes of all files: a sample was restored"])
    found = {"files": 0, "bytes": 0}
    for folder, _, names in os.walk(root):
        for name in names:
            entry = os.lstat(os.path.join(folder, name))
            if stat.S_ISREG(entry.st_mode):
                found = {"files": found["files"] + 1, "bytes": found["bytes"] + entry.st_size}
    expected = data_set.recorded
    checks = [CheckResult(n, found[n] == expected[n], f"{expected[n]:,}", f"{found[n]:,}") for n in found]
    return DataSetVerdict(data_set.name, checks, [])
