"""Fixtures of the tests of reports and of the command line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from command_line import Line
from moraine.repository import key_slots
from report_world import World


@pytest.fixture
def bare(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Line:
    """The command line, nothing made yet; keys are cheap, no variable leaks in."""
    for name in list(os.environ):
        if name.startswith(("MORAINE_", "AWS_")):
            monkeypatch.delenv(name)
    monkeypatch.setitem(key_slots.SCRYPT, "n", 1 << 4)
    return Line(tmp_path, capfd)


@pytest.fixture
def line(bare: Line) -> Line:
    """The command line with a repository and one snapshot."""
    bare("repo", "init")
    bare("backup", str(bare.source))
    return bare


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A repository with two nights of one policy and one of another; only looked at."""
    return World(tmp_path_factory.mktemp("world"))
