"""Callables that drills of the tests run."""

from __future__ import annotations

from pathlib import Path


def counts(root: Path) -> None:
    assert len(list((root / "events").iterdir())) == 20


def refuses(root: Path) -> bool:
    return not root.exists()
