"""Calls the command line, in this process or in one of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from moraine.cli.main import main

ROOT = Path(__file__).parents[2]


class Line:
    """The command line in this process, with a repository, a passphrase and a source that need not exist yet."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capfd = folder, capfd
        self.secret, self.repo, self.source = folder / "pass", folder / "repo", folder / "docs"
        self.secret.write_text("open sesame\n")
        (self.source / "deep").mkdir(parents=True)
        (self.source / "a.txt").write_text("hello")
        (self.source / "deep" / "b.csv").write_text("1,2\n" * 100)
        self.err = ""

    def __call__(self, *words: str, code: int = 0, common: bool = True) -> str:
        """What it prints; `common` adds the repository's flags, `code` is how it has to end."""
        flags = ["--repo", str(self.repo), "--passphrase-file", str(self.secret)] if common else []
        found = main([*words, *flags])
        out, self.err = self._capfd.readouterr()
        assert found == code, f"{words} ended with {found}: {out}{self.err}"
        return out

    def json(self, *words: str, code: int = 0, common: bool = True) -> Any:
        """What it prints with --json."""
        return json.loads(self(*words, "--json", code=code, common=common))

    @property
    def environ(self) -> dict[str, str]:
        """The same as variables, for a process."""
        return {"MORAINE_REPOSITORY": str(self.repo), "MORAINE_PASSPHRASE_FILE": str(self.secret)}


def nightly(line: Line, name: str = "docs") -> Path:
    """A policy file with a schedule, for the source and the repository of `line`."""
    file = line.folder / f"{name}.yaml"
    file.write_text(
        f"policy: {name}\nsource: {{path: {line.source}}}\nrepository: {{url: {line.repo}}}\n"
        "schedule: {cron: '0 2 * * *', timezone: Europe/Berlin}\n"
    )
    return file


def spawn(*words: str, environ: dict[str, str], text: bool = True) -> subprocess.Popen[Any]:
    """The command line in a process of its own."""
    return python("-m", "moraine", *words, environ=environ, text=text)


def python(*words: str, environ: dict[str, str], text: bool = True) -> subprocess.Popen[Any]:
    """Python with the package, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT / "include"), **environ},
        text=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=_heed_interrupts,
    )


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background job, as tests may be, ignores them
