"""A mirror by Moraine, rsync and (where it is installed) rclone, in turn: wall and CPU seconds, peak memory.

    PYTHONPATH=include .venv/bin/python tests/bench/beside_rsync.py FOLDER [--files 50000] [--file-bytes 10000]

All keep what they replace and remove. FOLDER should lie on a fresh file system: where many files were just deleted,
making new ones is slow for everybody.
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


def main() -> None:
    """Make the tree, run every stage with each tool, print a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--file-bytes", type=int, default=10_000)
    parser.add_argument("--fsync", action="store_true", help="rsync with --fsync too: as durable, file by file")
    args = parser.parse_args()
    folder = args.folder.resolve()
    rng = random.Random(1)
    tree = folder / "tree"
    for number in range(args.files):
        write(tree / f"{number // 100:05d}/{number % 100:02d}.txt", rng, args.file_bytes)
    tools = commands(folder, fsync=args.fsync)
    for stage in ("first", "unchanged", "night"):
        if stage == "night":
            for number in rng.sample(range(args.files), max(1, args.files // 50)):
                write(tree / f"{number // 100:05d}/{number % 100:02d}.txt", rng, args.file_bytes)
        for tool, command in tools.items():
            os.sync()
            print(f"{stage:10} {tool:8} {measure(command, folder)}", flush=True)


def commands(folder: Path, *, fsync: bool) -> dict[str, list[str]]:
    """The command of each tool, the same for every stage."""
    tree = str(folder / "tree")
    places = {name: str(folder / name) for name in ("moraine", "rsync", "rclone")}
    found = {"moraine": [sys.executable, "-m", "moraine", "-q", "mirror", tree, places["moraine"]]}
    if shutil.which("rsync"):
        keep = ["--delete", "--backup", f"--backup-dir={folder / 'rsync-trash'}"]
        found["rsync"] = ["rsync", "-aHAX", *keep, f"{tree}/", f"{places['rsync']}/"]
    if fsync:
        keep = ["--fsync", "--delete", "--backup", f"--backup-dir={folder / 'fsync-trash'}"]
        found["rsync+"] = ["rsync", "-aHAX", *keep, f"{tree}/", f"{folder / 'rsync-fsync'}/"]
    if shutil.which("rclone"):
        found["rclone"] = ["rclone", "sync", "-M", f"--backup-dir={folder / 'rclone-trash'}", tree, places["rclone"]]
    return found


def write(path: Path, rng: random.Random, size: int) -> None:
    """A file of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(rng.randbytes(size))


def measure(command: list[str], folder: Path) -> str:
    """Run a command as a whole process; times and memory by the kernel's account of it."""
    environ = {**os.environ, "RCLONE_CONFIG": str(folder / "rclone.conf")}
    began = time.monotonic()
    process = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"failed: {command}")
    cpu = used.ru_utime + used.ru_stime
    return f"wall {time.monotonic() - began:7.2f} s   cpu {cpu:7.2f} s   peak {used.ru_maxrss >> 10:5d} MiB"


if __name__ == "__main__":
    main()
