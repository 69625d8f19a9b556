"""A mirror in S3 by Moraine, rclone, s5cmd and the AWS command line: wall and CPU seconds, requests of each night.

    PYTHONPATH=include:tests .venv/bin/python tests/bench/mirror_s3.py [--delay 0.02] [--refused 0.05] [--scale 1]

The same tree, store and proxy as in `through_s3.py`; of the others those that are on PATH. Moraine also keeps what it
replaces, an inventory of every night, and reads back what it wrote; rclone is told to keep what it replaces; s5cmd and
`aws s3 sync` keep nothing.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from functools import partial
from pathlib import Path

from bench import workload
from peers import Tool
from servers import CREDENTIALS
from slow_server import Counts
from through_s3 import METHODS, far_away, persistently, timed


def main() -> None:
    """Every night by all, in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delay", type=float, default=0.02, help="seconds that every request takes longer")
    parser.add_argument("--refused", type=float, default=0.05, help="share of requests that are answered 503")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the tree")
    args = parser.parse_args()
    with far_away(args.scale, delay=args.delay, refused=args.refused) as (folder, counts):
        print(f"delay {counts.delay} s, {counts.refused:.0%} refused")
        nights(syncing(folder / "tree", counts.endpoint_url), counts, folder / "tree")


def nights(tools: list[Tool], counts: Counts, tree: Path) -> None:
    """Three nights: the first, one without and one with changes."""
    for number, stage in enumerate(("first", "unchanged", "night")):
        if stage == "night":
            workload("night", tree, 1)
        for tool in tools if number % 2 else reversed(tools):
            once = partial(counted, tool, stage, tree, counts)
            wall, cpu, peak = persistently(once) if stage == "first" else once()
            met = counts.take()
            requests = sum(met[method] for method in METHODS)
            sizes = f"{peak:.0f} MiB, {met['sent'] / 1e6:.2f} MB up, {met['received'] / 1e6:.2f} down"
            print(
                f"{stage:10} {tool.name:8} {wall:7.2f} s, CPU {cpu:6.2f} s, {requests:6} requests; peak {sizes}",
                flush=True,
            )


def counted(tool: Tool, stage: str, tree: Path, counts: Counts) -> tuple[float, float, int]:
    """As `timed`; what was counted before does not count."""
    counts.take()
    return timed(tool, stage, tree)


def syncing(tree: Path, endpoint_url: str) -> list[Tool]:
    """The tools that are here, each with a prefix of its own."""
    environ = {
        **CREDENTIALS,
        "AWS_ENDPOINT_URL": endpoint_url,
        "PYTHONPATH": str(Path(__file__).parents[2] / "include"),
    }
    source, place = f"{tree}/", "s3://bench"
    remote = f":s3,provider=Other,env_auth,endpoint='{endpoint_url}':bench"
    alone = ["env", "-u", "AWS_CA_BUNDLE"]  # nothing is encrypted on its way here, and rclone stumbles over one
    commands = {
        "moraine": [sys.executable, "-P", "-m", "moraine", "-q", "mirror", source, f"{place}/moraine"],
        "rclone": [*alone, "rclone", "sync", f"--backup-dir={remote}/rclone-trash", source, f"{remote}/rclone"],
        "s5cmd": ["s5cmd", "--endpoint-url", endpoint_url, "sync", "--delete", source, f"{place}/s5cmd/"],
        "aws": ["aws", "s3", "sync", "--only-show-errors", "--delete", source, f"{place}/aws"],
    }
    return [
        Tool(name, [], [], command, [], [], environ)
        for name, command in commands.items()
        if name == "moraine" or shutil.which(name)
    ]


if __name__ == "__main__":
    main()
