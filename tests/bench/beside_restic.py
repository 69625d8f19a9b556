"""Moraine and restic at the same work, in turn: wall and CPU seconds, peak memory.

    PYTHONPATH=include .venv/bin/python tests/bench/beside_restic.py FOLDER [--files 100000] [--file-bytes 10000]

FOLDER should lie on a fresh file system: where many files were just deleted, making new ones is slow for everybody.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

WORDS = [random.Random(n).randbytes(4).hex().encode() for n in range(4000)]


def main() -> None:
    """Make the tree, run every stage with both, print a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--file-bytes", type=int, default=10_000)
    args = parser.parse_args()
    if not shutil.which("restic"):
        parser.error("restic is not installed")
    folder = args.folder.resolve()
    rng = random.Random(1)
    tree = folder / "tree"
    for number in range(args.files):
        write(tree / f"{number // 100:05d}/{number % 100:02d}.txt", rng, args.file_bytes)
    (folder / "pass").write_text("bench\n")
    both = commands(folder)
    for stage in ("init", "first", "unchanged", "night", "restore", "check"):
        if stage == "night":
            for number in rng.sample(range(args.files), max(1, args.files // 50)):
                write(tree / f"{number // 100:05d}/{number % 100:02d}.txt", rng, args.file_bytes)
        for tool, stages in both.items():
            os.sync()
            print(f"{stage:10} {tool:8} {measure(stages[stage], folder)}", flush=True)


def write(path: Path, rng: random.Random, size: int) -> None:
    """A file, half of words and half of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    words = b" ".join(rng.choices(WORDS, k=size // 18))
    path.write_bytes(words + rng.randbytes(max(0, size - len(words))))


def commands(folder: Path) -> dict[str, dict[str, list[str]]]:
    """The command of each tool for each stage; both encrypt, and restore to a place of their own."""
    tree, secret = str(folder / "tree"), str(folder / "pass")
    restic = ["restic", "-q", "-r", str(folder / "restic"), "-p", secret]
    moraine = [sys.executable, "-m", "moraine", "-q", "--repo", str(folder / "moraine"), "--passphrase-file", secret]
    save, back = [*restic, "backup", tree], [*moraine, "backup", tree]
    return {
        "restic": {
            "init": [*restic, "init", "--repository-version", "2"],
            **dict.fromkeys(("first", "unchanged", "night"), save),
            "restore": [*restic, "restore", "latest", "--target", str(folder / "out-restic")],
            "check": [*restic, "check", "--read-data"],
        },
        "moraine": {
            "init": [*moraine, "repo", "init"],
            **dict.fromkeys(("first", "unchanged", "night"), back),
            "restore": [*moraine, "restore", "latest", "--to", str(folder / "out-moraine")],
            "check": [*moraine, "check", "--read-data"],
        },
    }


def measure(command: list[str], folder: Path) -> str:
    """Run a command as a whole process; times and memory by the kernel's account of it."""
    environ = {**os.environ, "RESTIC_CACHE_DIR": str(folder / "cache")}
    began = time.monotonic()
    process = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"failed: {command}")
    cpu = used.ru_utime + used.ru_stime
    return f"wall {time.monotonic() - began:7.2f} s   cpu {cpu:7.2f} s   peak {used.ru_maxrss >> 10:5d} MiB"


if __name__ == "__main__":
    main()
