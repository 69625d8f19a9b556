"""The demo's files under `.demo/`: source, key and repository, made where they are missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from moraine.errors import ConfigError
from moraine.steps.key_file import write_key_file

POLICY = "demo"


def prepare_demo(root: Path, say: Callable[[str], None] = lambda line: None) -> bool:
    """Make what the demo policy needs; whether the source is new."""
    if not (root / "include/policies/demo.yaml").exists():
        return False
    folder = root / ".demo"
    folder.mkdir(exist_ok=True)
    new = not (folder / "lake").exists()
    if new:
        from moraine.demo.lake import make_lake

        say(f"making a small data lake in {folder / 'lake'}")
        make_lake(folder / "lake")
    if not (folder / "passphrase").exists():
        write_key_file(folder / "passphrase", os.urandom)  # nobody types it
    if not (folder / "repository").exists():
        say(f"making an encrypted repository in {folder / 'repository'}")
        _init(folder)
    return new


def live_on(root: Path) -> int:
    """Let one more night pass over the demo source; its number."""
    from moraine.demo.lake import live_a_night

    lake, counter = root / ".demo/lake", root / ".demo/nights.json"
    night = (json.loads(counter.read_text()) if counter.exists() else 0) + 1
    live_a_night(lake, night)
    counter.write_text(json.dumps(night))
    return night


def _init(folder: Path) -> None:
    # The command line itself, so that the demo stands on what its user can type. Made aside: never half a repository.
    making = folder / "repository.making"
    command = [sys.executable, "-P", "-m", "moraine", "repo", "init", str(making)]
    done = subprocess.run(
        [*command, "--passphrase-file", str(folder / "passphrase")], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ConfigError(
            f"the demo repository could not be made: {done.stderr.strip()}", hint=f"delete {folder}, then run again"
        )
    making.rename(folder / "repository")
