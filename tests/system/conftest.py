"""A checkout of one's own: the same files in another folder, with the environment of this one."""

from __future__ import annotations

import filecmp
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The root of a copy of this project; its folder's name has a space."""
    stamp = Path(sys.prefix) / "moraine.lock"
    if not stamp.exists() or not filecmp.cmp(stamp, ROOT / "requirements.lock", shallow=False):
        pytest.skip("the environment was not made by ./moraine from this requirements.lock")
    root = tmp_path / "check out"
    root.mkdir()
    for name in ("dags", "include", "plugins"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("moraine", "requirements.lock"):
        shutil.copy(ROOT / name, root)
    (root / ".venv").symlink_to(sys.prefix)
    return root
