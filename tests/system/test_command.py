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


@pytest.fixture
def bare(root: Path, tmp_path: Path) -> Path:
    """PATH's only folder while the checkout has no environment: what `moraine` itself needs, and no Python."""
    (root / ".venv/moraine.lock").write_text("another\n")
    (root / ".venv/bin/python").unlink()
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("bash", "cmp", "flock", "mkdir", "readlink", "rm"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    return tools


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def make(root: Path, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([root / "moraine", "ls"], env={"PATH": path}, capture_output=True, text=True, check=False)


def test_without_a_fit_python_it_says_so(root: Path, bare: Path) -> None:
    script(bare / "python3", "echo 3.9 100")
    done = make(root, str(bare))
    assert done.returncode == 1
    assert "Python 3.11, 3.12 or 3.13 is needed" in done.stderr
    assert not (root / ".venv/moraine.unfinished").exists()


@pytest.mark.parametrize(
    ("first", "second", "taken"),
    [
        ("3.11 600", "3.12 400", "second"),
        ("3.11 440", "3.12 400", "first"),  # not worth another than the user's own
        ("3.14 300", "3.12 400", "second"),
        ("3.11 600", "3.12 400; no venv", "first"),
        ("", "3.13 400", "second"),  # a name that leads nowhere
    ],
)
def test_a_clearly_quicker_python_is_taken(
    root: Path, bare: Path, tmp_path: Path, first: str, second: str, taken: str
) -> None:
    for name, says in (("first", first), ("second", second)):
        (tmp_path / name).mkdir()
        without = 1 if "no venv" in says else 0
        script(
            tmp_path / name / "python3",
            f"""case "$*" in
            *perf_counter*) echo {says.split(";")[0]} ;;
            *ensurepip*) exit {without} ;;
            *) echo "taken: {name} $*" >&2; exit 3 ;;
            esac""",
        )
    done = make(root, f"{bare}:{tmp_path / 'first'}:{tmp_path / 'second'}")
    assert f"taken: {taken} -m venv" in done.stderr


def test_an_unfit_python_that_lacks_venv_is_named(root: Path, bare: Path) -> None:
    script(bare / "python3", 'case "$*" in *perf_counter*) echo 3.11 100 ;; *) exit 1 ;; esac')
    done = make(root, str(bare))
    assert done.returncode == 1
    assert f"{bare}/python3 has no venv or pip module" in done.stderr
