"""Fixtures of the command line's tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Line

from moraine.repository import keys


@pytest.fixture
def bare(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """The command line, nothing made yet; keys are cheap, no variable leaks in."""
    for name in list(os.environ):
        if name.startswith(("MORAINE_", "AWS_")):
            monkeypatch.delenv(name)
    monkeypatch.setitem(keys.SCRYPT, "n", 1 << 4)
    handler = signal.getsignal(signal.SIGTERM)
    yield Line(tmp_path, capfd)
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def line(bare: Line) -> Line:
    """The command line with a repository and one snapshot."""
    bare("repo", "init")
    bare("backup", str(bare.source))
    return bare
