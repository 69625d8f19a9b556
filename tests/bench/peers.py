"""The tools that are measured: how each is told to make a repository, back up, restore and check. All encrypt."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from moraine.repository.key_slots import generate_key

SECRET = "bench"
PASSPHRASE = "moraine, passphrase"


@dataclass(frozen=True)
class Tool:
    """Commands over a repository of its own; they run in the tree that is saved, or in the folder to restore to."""

    name: str
    version: list[str]
    init: list[str]
    backup: list[str]
    restore: list[str]
    check: list[str]
    environ: dict[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        """Its name and version, as it says itself."""
        said = subprocess.run(self.version, capture_output=True, text=True, check=True, env=self.env()).stdout
        version = re.search(r"\d+(\.\d+)+", said)
        return f"{self.name} {version[0] if version else said.splitlines()[0]}"

    def env(self) -> dict[str, str]:
        """What it runs with."""
        return {**os.environ, **self.environ}


def moraine(home: Path) -> Tool:
    """This package, as a process of its own, with a generated key: what its README begins with."""
    return _moraine("moraine", home, generate_key(os.urandom))


def moraine_passphrase(home: Path) -> Tool:
    """The same with a passphrase, as the others have."""
    return _moraine(PASSPHRASE, home, SECRET)


def _moraine(name: str, home: Path, secret: str) -> Tool:
    file = home / "secret"
    file.write_text(secret)
    options = ["-q", "--repo", str(home / "repository"), "--passphrase-file", str(file)]
    base = [sys.executable, "-P", "-m", "moraine"]
    run = [*base, *options]
    return Tool(
        name,
        [*base, "--version"],
        [*run, "repo", "init"],
        [*run, "backup", "--allow-change", "--name", "bench", "."],
        [*run, "restore", "latest", "--to", "."],
        [*run, "check", "--read-data"],
        # What is installed is compiled: the first command, which is not measured, may do that here.
        {"PYTHONPATH": str(Path(__file__).parents[2] / "include"), "PYTHONDONTWRITEBYTECODE": ""},
    )


def restic(home: Path) -> Tool:
    """restic, with its newest repository format and its own choice of compression."""
    run = ["restic", "-q", "-r", str(home / "repository")]
    environ = {"RESTIC_PASSWORD": SECRET, "RESTIC_CACHE_DIR": str(home / "cache")}
    return Tool(
        "restic",
        ["restic", "version"],
        [*run, "init", "--repository-version", "2"],
        [*run, "backup", "."],
        [*run, "restore", "latest", "--target", "."],
        [*run, "check", "--read-data"],
        environ,
    )


def borg(home: Path) -> Tool:
    """borg, with zstd and its fastest authenticated encryption."""
    repository = str(home / "repository")
    environ = {"BORG_PASSPHRASE": SECRET, "BORG_BASE_DIR": str(home), "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}
    newest = ["bash", "-c", f'exec borg extract "{repository}::$(borg list --short --last 1 "{repository}")"']
    return Tool(
        "borg",
        ["borg", "--version"],
        ["borg", "init", "--encryption=repokey-blake2", repository],
        ["borg", "create", "--compression", "zstd,3", f"{repository}::{{now:%Y%m%d%H%M%S%f}}", "."],
        newest,
        ["borg", "check", "--verify-data", repository],
        environ,
    )


def kopia(home: Path) -> Tool:
    """kopia, with zstd; its own cache, as it comes."""
    config = f"--config-file={home / 'config'}"
    environ = {"KOPIA_PASSWORD": SECRET, "KOPIA_CHECK_FOR_UPDATES": "false", "KOPIA_LOG_DIR": str(home / "logs")}
    run = ["kopia", config, "--no-progress", "--log-level=error"]
    repository = str(home / "repository")
    start = f"mkdir -p {repository} && {' '.join(run)} repository create filesystem --path {repository} "
    start += f"--cache-directory {home / 'cache'} && {' '.join(run)} policy set --global --compression=zstd"
    newest = f"exec {' '.join(run)} snapshot restore $({' '.join(run)} snapshot list --all --json | "
    newest += f"{sys.executable} -c 'import json,sys; print(json.load(sys.stdin)[-1][\"id\"])') ."
    return Tool(
        "kopia",
        ["kopia", "--version"],
        ["bash", "-c", start],
        [*run, "snapshot", "create", "."],
        ["bash", "-c", newest],
        [*run, "snapshot", "verify", "--verify-files-percent=100"],
        environ,
    )


def found(folder: Path, names: list[str] | None = None) -> list[Tool]:
    """Moraine, and those of the others that are on PATH; each with a home of its own below `folder`."""
    known = {"moraine": moraine, PASSPHRASE: moraine_passphrase, "restic": restic, "borg": borg, "kopia": kopia}
    tools = []
    for name, make in known.items():
        wanted = names is None or name in names
        if name == "moraine" or (wanted and (name == PASSPHRASE or shutil.which(name))):
            home = folder / name
            home.mkdir(parents=True)
            tools.append(make(home))
    return tools
