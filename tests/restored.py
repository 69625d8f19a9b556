"""Restores a snapshot and compares it with a tree, by the independent comparer."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compare import compare_trees
from moraine.repository.repository import Repository
from moraine.sources.posix_target import PosixTarget
from moraine.steps.restore import Restored, execute_restore
from moraine.steps.restore_plan import plan_restore


def restore(repository: Repository, snapshot: str, target: Path) -> Restored:
    """Restore a whole snapshot into `target`."""
    place = PosixTarget(target)
    plan = plan_restore(repository, repository.snapshot(snapshot), target=place)
    return execute_restore(plan, repository, place)


def assert_restores(repository: Repository, snapshot: str, expected: Path) -> None:
    """The snapshot restores equal to `expected`."""
    with _scratch() as out:
        restored = restore(repository, snapshot, out)
        assert restored.exit_code == 0, restored.warnings
        assert compare_trees(expected, out) == []


def assert_restores_or_tells(repository: Repository, snapshot: str, expected: Path) -> None:
    """What is not equal to `expected` is named, and left out."""
    with _scratch() as out:
        restored = restore(repository, snapshot, out)
        lost = {warning["path"] for warning in restored.warnings}
        for line in compare_trees(expected, out):
            path, _, what = line.partition(": ")
            assert restored.exit_code == 50, line
            assert path in lost or what.startswith("linked with"), line
        assert not any((out / path).exists() for path in lost)


@contextmanager
def _scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="restored-"))
    try:
        yield folder / "out"
    finally:
        shutil.rmtree(folder)
