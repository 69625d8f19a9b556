"""The data sets of a snapshot: what restored data has to be like beyond being the same bytes.

A data set is planned from the repository alone, before anything is restored, and judged in the restored tree: so a
drill compares with what was recorded that night and not with today's source.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moraine.model.policy import Policy
from moraine.model.snapshot import Snapshot
from moraine.repository.repository import Repository


@dataclass(frozen=True, slots=True)
class DataSet:
    """What is judged together; JSON-able."""

    name: str
    kind: str
    patterns: tuple[str, ...]
    rows: list[dict[str, Any]] = field(default_factory=list)  # what was recorded


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One thing that was looked at."""

    name: str
    passed: bool
    expected: Any = None
    found: Any = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class DataSetVerdict:
    """What a data set came to."""

    name: str
    checks: list[CheckResult] = field(default_factory=list)
    not_proven: list[str] = field(default_factory=list)


def plan_data_sets(repository: Repository, snapshot: Snapshot, policy: Policy) -> list[DataSet]:
    """The data sets of a snapshot."""
    del repository, policy
    recorded = {"files": snapshot.totals.files - snapshot.totals.unreadable, "bytes": snapshot.totals.bytes}
    return [DataSet("the whole tree", "files", ("**",), [recorded])]


def validate_data_set(root: Path, data_set: DataSet, *, scratch: Path, docs: Path | None) -> DataSetVerdict:
    """Judge a data set in the tree restored under `root`.

    Args:
        root: the restored tree.
        data_set: as planned.
        scratch: a directory for what the judge has to write.
        docs: where pages about the verdict may be left.
    """
    del scratch, docs
    found = {"files": 0, "bytes": 0}
    for folder, _, names in os.walk(root):
        for name in names:
            entry = os.lstat(os.path.join(folder, name))
            if stat.S_ISREG(entry.st_mode):
                found = {"files": found["files"] + 1, "bytes": found["bytes"] + entry.st_size}
    expected = data_set.rows[0]
    checks = [CheckResult(name, found[name] == expected[name], expected[name], found[name]) for name in found]
    return DataSetVerdict(data_set.name, checks)
