"""A checkout of one's own: the same files in another folder, with the environment of this one."""

from __future__ import annotations

import filecmp
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stories import World, story_world

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The root of a copy of this project; its folder's name has a space."""
    return make_checkout(tmp_path / "check out")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One Airflow with the policies of all stories, up from the first test that asks for it to the last."""
    folder = tmp_path_factory.mktemp("stories")
    with story_world(folder, make_checkout(folder / "checkout")) as running:
        yield running


def make_checkout(root: Path) -> Path:
    """Copy this project; the copy uses the environment that runs the tests."""
    stamp = Path(sys.prefix) / "moraine.lock"
    if not stamp.exists() or not filecmp.cmp(stamp, ROOT / "requirements.lock", shallow=False):
        pytest.skip("the environment was not made by ./moraine from this requirements.lock")
    root.mkdir()
    for name in ("dags", "include", "plugins"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("moraine", "requirements.lock"):
        shutil.copy(ROOT / name, root)
    (root / ".venv").symlink_to(sys.prefix)
    return root
