"""A million files that are nowhere: memory of each step, and what a night writes, whatever the size of the tree."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(900)]

SCRIPT = Path(__file__).parents[1] / "bench/scale.py"


def test_every_step_is_bounded_and_a_night_writes_its_change(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(SCRIPT), str(tmp_path), "--sizes", "10000", "1000000"]
    said = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    print(said.stdout)
    peaks = [int(peak) for peak in re.findall(r" (\d+) MiB$", said.stdout, re.MULTILINE)]
    assert len(peaks) == 16  # eight steps, two trees
    assert max(peaks) < 768
    rows = [float(size) for size in re.findall(r"manifest: ([\d.]+) bytes a row", said.stdout)]
    assert len(rows) == 2 and max(rows) < 55
    small, large = ({k: int(v) for k, v in re.findall(r"'(\w+)': (\d+)", line)} for line in _written(said.stdout))
    assert large["manifests"] < 1.5 * small["manifests"]
    assert sum(large.values()) < 1.2 * sum(small.values())


def _written(said: str) -> list[str]:
    return [line for line in said.splitlines() if "'manifests'" in line]
