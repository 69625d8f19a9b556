"""The command at the root: how it finds its place, and what it passes on."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ECHO = """#!/bin/sh
printf '%s\\n' "cwd $PWD" "path $PYTHONPATH" "$@"
exit 7
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout whose Python only says how it was called."""
    root = tmp_path / "a check out"
    (root / ".venv/bin").mkdir(parents=True)
    shutil.copy(ROOT / "moraine", root)
    (root / "requirements.lock").write_text("uv==1\n")
    (root / ".venv/moraine.lock").write_text("uv==1\n")
    python = root / ".venv/bin/python"
    python.write_text(ECHO)
    python.chmod(0o755)
    return root


def call(command: str | Path, *arguments: str, cwd: Path) -> list[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": "/else where"}
    done = subprocess.run([command, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    return done.stdout.splitlines()


def test_arguments_folder_and_exit_code_are_passed_on(root: Path, tmp_path: Path) -> None:
    said = call(root / "moraine", "ls", "a b", "", "*", cwd=tmp_path)
    assert said == [f"cwd {tmp_path}", f"path {root}/include:/else where", "-P", "-m", "moraine", "ls", "a b", "", "*"]


@pytest.mark.parametrize("command", ["./a check out/moraine", "link", "./a check out/../link"])
def test_it_finds_its_root_from_anywhere(root: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "link").symlink_to("a check out/moraine")
    assert call(f"./{command}", "x", cwd=tmp_path)[1] == f"path {root}/include:/else where"


@pytest.mark.parametrize(
    ("arguments", "called"),
    [
        (["run", "demo"], ["-P", "-m", "moraine.workflows.run", "demo"]),
        (["up", "--port", "1"], ["-P", "-m", "moraine.workflows.up", "--port", "1"]),
        (["airflow", "dags", "list"], ["-P", "-m", "moraine.workflows.airflow_home", "dags", "list"]),
        (["test", "-k", "x"], ["-m", "pytest", "-k", "x"]),
    ],
)
def test_verbs_of_the_checkout(root: Path, arguments: list[str], called: list[str]) -> None:
    assert call(root / "moraine", *arguments, cwd=root)[2:] == called


def test_a_tier_is_a_folder_of_tests(root: Path) -> None:
    (root / "tests/unit").mkdir(parents=True)
    assert call(root / "moraine", "test", "unit", "-x", cwd=root)[2:] == ["-m", "pytest", "tests/unit", "-x"]


def test_without_a_fit_python_it_says_so(root: Path, tmp_path: Path) -> None:
    (root / ".venv/moraine.lock").write_text("another\n")
    (root / ".venv/bin/python").unlink()
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("bash", "cmp", "flock", "readlink"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    (tools / "python3").write_text("#!/bin/sh\necho 3.9\n")
    (tools / "python3").chmod(0o755)
    done = subprocess.run(
        [root / "moraine", "ls"], env={"PATH": str(tools)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Python 3.11, 3.12 or 3.13 is needed" in done.stderr
    assert not (root / ".venv/moraine.unfinished").exists()
