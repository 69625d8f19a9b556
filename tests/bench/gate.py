"""`./moraine bench gate`: have the CPU seconds of a backup grown?

Each stage is divided by a yardstick measured in the same run (reading, hashing and compressing the same tree, file by
file, in one plain loop), so that a slow or busy machine counts on both sides; all of it in memory, where there is a
/dev/shm, as the cost of making files on a disk depends on what was there before. It fails when a ratio has doubled:
wide, as CPU seconds on shared machines vary.

    ./moraine bench gate              compare with tests/bench/baseline.json
    ./moraine bench gate --record     write it
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from bench import run, timed, workload
from peers import Tool, moraine

BASELINE = Path(__file__).with_name("baseline.json")
MARGIN = 2.0
ROUNDS = 3
SCALE = 0.2  # 10,000 small files
STAGES = ("first", "unchanged", "restore", "check")

YARDSTICK = """
import os, sys, blake3, zstandard
compressor = zstandard.ZstdCompressor(level=2)
for _ in range(3):
    for folder, _, names in os.walk("."):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                data = file.read()
            blake3.blake3(data).digest()
            compressor.compress(data)
"""


def main() -> int:
    """Measure, compare, say so; 1 when something has become slow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="make what is measured the baseline")
    args = parser.parse_args()
    ratios = measured()
    if args.record:
        BASELINE.write_text(json.dumps(ratios, indent=1) + "\n")
    baseline = json.loads(BASELINE.read_text())
    slow = [stage for stage, ratio in ratios.items() if ratio > MARGIN * baseline[stage]]
    for stage, ratio in ratios.items():
        verdict = "TOO SLOW" if stage in slow else "ok"
        print(f"{stage:10} {ratio:5.2f} × the yardstick's CPU seconds, recorded {baseline[stage]:5.2f}: {verdict}")
    return 1 if slow else 0


def measured() -> dict[str, float]:
    """The least CPU seconds of each stage, over the least of the yardstick."""
    seconds: dict[str, list[float]] = {}
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="moraine-gate-", dir=memory) as made:
        folder = Path(made)
        tree, out, home = folder / "tree", folder / "out", folder / "home"
        workload("small files", tree, SCALE)
        for _ in range(ROUNDS):
            home.mkdir()
            tool = moraine(home)
            loop = [sys.executable, "-c", YARDSTICK]
            yardstick = Tool("yardstick", loop, loop, loop, loop, loop)
            run(tool, tool.init, folder)
            seconds.setdefault("yardstick", []).append(timed("", "first", yardstick, tree, home).cpu)
            for stage in STAGES:
                out.mkdir(exist_ok=True)
                where = out if stage == "restore" else tree
                seconds.setdefault(stage, []).append(timed("", stage, tool, where, home).cpu)
            shutil.rmtree(out)
            shutil.rmtree(home)
    return {stage: round(min(seconds[stage]) / min(seconds["yardstick"]), 3) for stage in STAGES}


if __name__ == "__main__":
    sys.exit(main())
