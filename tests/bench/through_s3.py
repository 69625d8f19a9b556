"""The same backup through S3 by Moraine and restic: wall seconds, and requests for each GiB and each night.

    PYTHONPATH=include:tests .venv/bin/python tests/bench/through_s3.py [--delay 0.02] [--refused 0.05] [--rate 0]

A versitygw on this machine is the store; a proxy before it adds DELAY seconds to every request, answers the share
REFUSED of them with 503 SlowDown, lets RATE bytes a second through each request where one is given, and counts. A peak
is of the whole process, in MiB. The tree is 200 MB of a data lake and 5,000 small files.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from bench import compare, run, workload
from peers import Tool, found
from servers import CREDENTIALS, running
from slow_server import Counts, slow

T = TypeVar("T")

LAKE = 200 / 1500  # of the whole workload
SMALL = 5_000 / 50_000
STAGES = ("first", "unchanged", "night", "restore", "check")
PER_GIB = ("first", "restore", "check")
METHODS = ("GET", "PUT", "HEAD", "POST", "DELETE")


def main() -> None:
    """Every stage by both, in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delay", type=float, default=0.02, help="seconds that every request takes longer")
    parser.add_argument("--refused", type=float, default=0.05, help="share of requests that are answered 503")
    parser.add_argument(
        "--rate", type=float, default=0.0, help="bytes a second of each request; 0: as many as it takes"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="share of the tree")
    parser.add_argument("--peers", nargs="*", default=["restic"], help="which other tools")
    args = parser.parse_args()
    with far_away(args.scale, delay=args.delay, refused=args.refused, rate=args.rate) as (folder, counts):
        tools = [through(tool, counts.endpoint_url) for tool in found(folder / "homes", args.peers)]
        measure(tools, counts, folder)


@contextmanager
def far_away(scale: float, **store: float) -> Iterator[tuple[Path, Counts]]:
    """A folder with a `tree` in it, and a store with a bucket `bench` behind a proxy that is as `store` says."""
    with tempfile.TemporaryDirectory(prefix="moraine-s3-") as made:
        folder = Path(made)
        (folder / "server").mkdir()
        workload("data lake", folder / "tree/lake", LAKE * scale)
        workload("small files", folder / "tree/small", SMALL * scale)
        with (
            running("versitygw", folder / "server") as server,
            slow(server.endpoint_url, **store) as counts,
        ):
            server.make_bucket("bench")
            yield folder, counts


def measure(tools: list[Tool], counts: Counts, folder: Path) -> None:
    """Every stage by every tool, each as a process of its own."""
    tree, out = folder / "tree", folder / "out"
    gib = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file()) / (1 << 30)
    for tool in tools:
        persistently(partial(run, tool, tool.init, folder))
    store = f"delay {counts.delay} s, {counts.refused:.0%} refused, {counts.rate / 1e6:g} MB/s each"
    print(f"a tree of {gib:.3f} GiB; {store}")
    for number, stage in enumerate(STAGES):
        if stage == "night":
            workload("night", tree, 1)
        for tool in tools if number % 2 else reversed(tools):
            if stage == "restore":
                out.mkdir()
            counts.take()
            wall, cpu, peak = timed(tool, stage, out if stage == "restore" else tree)
            met = counts.take()
            requests = sum(met[method] for method in METHODS)
            kinds = ", ".join(f"{met[method]} {method}" for method in METHODS if met[method])
            line = f"{stage:10} {tool.name:8} {wall:7.2f} s, CPU {cpu:6.2f} s, {peak:4} MiB, {requests:4} requests"
            line += f" ({requests / gib:.0f}/GiB)" if stage in PER_GIB else ""
            line += (
                f": {kinds}; {met['refused']} refused; {met['sent'] / 1e6:.2f} MB up, {met['received'] / 1e6:.2f} down"
            )
            print(line, flush=True)
            if stage == "restore":
                compare(tool, tree, out)
                shutil.rmtree(out)


def persistently(make: Callable[[], T]) -> T:
    """Make a repository; versitygw now and then accepts two of eight puts of a key, and Moraine refuses it then."""
    for _ in range(20):
        with suppress(SystemExit):
            return make()
    return make()


def timed(tool: Tool, stage: str, folder: Path) -> tuple[float, float, int]:
    """Wall and CPU seconds of one command, and its peak; time(1) is small, so what it forks does not begin large."""
    began = time.monotonic()
    command = {"restore": tool.restore, "check": tool.check}.get(stage, tool.backup)
    command = ["/usr/bin/time", "--quiet", "-f", "%M", *command]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, cwd=folder, env=tool.env(), stdout=subprocess.DEVNULL, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        said.seek(0)
        heard = said.read().decode(errors="replace")
        if os.waitstatus_to_exitcode(status):
            sys.exit(f"{tool.name} failed at {stage}: {heard}")
    return wall, used.ru_utime + used.ru_stime, int(heard.split()[-1]) // 1024


def through(tool: Tool, endpoint_url: str) -> Tool:
    """The tool with its repository in the bucket."""
    place = next(word for word in tool.init if word.endswith("/repository"))
    url = f"s3:{endpoint_url}/bench/{tool.name}" if tool.name == "restic" else f"s3://bench/{tool.name}"
    environ = {**tool.environ, **CREDENTIALS, "AWS_ENDPOINT_URL": endpoint_url}

    def moved(command: list[str]) -> list[str]:
        return [url if word == place else word for word in command]

    return replace(
        tool,
        init=moved(tool.init),
        backup=moved(tool.backup),
        restore=moved(tool.restore),
        check=moved(tool.check),
        environ=environ,
    )


if __name__ == "__main__":
    main()
