"""Restores a snapshot and compares it with a tree, by the independent comparer."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from compare import compare_trees
from moraine.repository.repository import Repository
from moraine.sources.posix_target import PosixTarget
from moraine.steps.restore import execute_restore
from moraine.steps.restore_plan import plan_restore


def restore(repository: Repository, snapshot: str, target: Path) -> None:
    """Restore a whole snapshot into `target`."""
    place = PosixTarget(target)
    plan = plan_restore(repository, repository.snapshot(snapshot), target=place)
    restored = execute_restore(plan, repository, place)
    assert restored.exit_code == 0, restored.warnings


def assert_restores(repository: Repository, snapshot: str, expected: Path) -> None:
    """The snapshot restores equal to `expected`, times of the copy's own making aside."""
    folder = Path(tempfile.mkdtemp(prefix="restored-"))
    try:
        restore(repository, snapshot, folder / "out")
        assert compare_trees(expected, folder / "out") == []
    finally:
        shutil.rmtree(folder)
