"""A million files: listing, diff and manifest in bounded memory, by the command line in a process of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from memory import command_peak

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(900)]

GIB = 1 << 30


def peak(folder: Path, *words: str) -> int:
    """Run the command line; the most memory it had, in bytes."""
    flags = ["--repo", str(folder / "repository"), "--passphrase-file", str(folder / "passphrase"), "--quiet"]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return command_peak([sys.executable, "-m", "moraine", *words, *flags], environ)


def test_a_million_empty_files_within_a_gibibyte(tmp_path: Path) -> None:
    (tmp_path / "passphrase").write_text("a passphrase\n")
    for directory in range(1000):
        place = tmp_path / f"source/{directory:03d}"
        place.mkdir(parents=True)
        for file in range(1000):
            os.close(os.open(place / f"file-{file:05d}.dat", os.O_CREAT | os.O_WRONLY))
    peak(tmp_path, "repo", "init")
    first = peak(tmp_path, "backup", str(tmp_path / "source"))
    (tmp_path / "source/500/new").write_bytes(b"new")
    second = peak(tmp_path, "backup", str(tmp_path / "source"))
    print(f"peak memory: first night {first >> 20} MiB, next night {second >> 20} MiB")
    assert first < GIB
    assert second < GIB
