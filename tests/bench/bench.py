"""`./moraine bench`: the same work by Moraine and by every other tool that is here, stage by stage, in turn.

    ./moraine bench                          two minutes: a tenth of the work, once
    ./moraine bench full --page docs/PERFORMANCE.md
    ./moraine bench full --folder /mnt/fresh --rounds 5 --peers restic borg

Every number is of a whole process, from start to exit, by the kernel's account of it and its children. Each round
begins with empty repositories, and the order of the tools is drawn anew for every stage, so that drift of the machine
hits all alike. Before each the machine is left alone until it is idle; then it is done several times in a row, from
the same repository, and all but the first count. FOLDER should be a fresh file system with room for twelve times the
data: where many files were just deleted, making new ones is slow for everybody.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from page import Sample, table, write_page
from peers import Tool, found

WORKLOADS = ("small files", "data lake", "one large file")
BACKUPS = ("first", "unchanged", "night")
STAGES = (*BACKUPS, "restore", "check")
QUICK = 0.1
IDLE = 0.97  # of all cores, when nothing else runs
WATCHED = 2.5  # seconds that it has to last: Linux begins to give back what was freed two seconds afterwards
PATIENCE = 60.0  # seconds to wait for that


def main() -> None:
    """Measure, print a table, and keep it where `--page` says."""
    args = arguments()
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="moraine-bench-") as made:
        folder = Path(made)
        for name in args.work:
            source = folder / "source"
            workload(name, source, args.scale)
            for number in range(args.rounds):
                homes = folder / "homes"
                tools = found(homes, args.peers)
                samples += measured(name, number, tools, args.repeats, folder)
                shutil.rmtree(homes)
            shutil.rmtree(source)
        described = [tool.describe() for tool in found(folder / "homes", args.peers)]
    print(table(samples))
    if args.page:
        size = {"scale": args.scale, "rounds": args.rounds, "repeats": args.repeats}
        write_page(args.page, samples, described, **size, command=sys.argv[1:])


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", nargs="?", choices=("quick", "full"), default="quick")
    parser.add_argument("--folder", type=Path, help="where trees and repositories are made")
    parser.add_argument("--rounds", type=int, help="how often all is done; medians count (default: 1, full: 3)")
    parser.add_argument("--repeats", type=int, help="how often each stage counts in a round (default: 1, full: 3)")
    parser.add_argument("--scale", type=float, help="share of the full work (default: 0.1, full: 1)")
    parser.add_argument("--peers", nargs="*", help="which other tools (default: restic, borg, kopia where installed)")
    parser.add_argument("--work", nargs="*", choices=WORKLOADS, default=WORKLOADS)
    parser.add_argument("--page", type=Path, help="a Markdown page to write the result to, with a plot beside it")
    args = parser.parse_args()
    full = args.size == "full"
    args.rounds = args.rounds or (3 if full else 1)
    args.repeats = args.repeats or (3 if full else 1)
    args.scale = args.scale or (1.0 if full else QUICK)
    return args


def measured(work: str, number: int, tools: list[Tool], repeats: int, folder: Path) -> list[Sample]:
    """One round of one workload: every stage by every tool, on a copy of the source."""
    tree = folder / "tree"
    shutil.copytree(folder / "source", tree)
    samples: list[Sample] = []
    for tool in tools:
        run(tool, tool.init, folder)
    for place, stage in enumerate(STAGES):
        if stage == "night":
            workload("night", tree, 1 + number)
        for tool in random.Random(len(STAGES) * number + place).sample(tools, len(tools)):
            samples += repeated(work, stage, tool, repeats, folder)
    shutil.rmtree(tree)
    return samples


def repeated(work: str, stage: str, tool: Tool, repeats: int, folder: Path) -> list[Sample]:
    """One stage by one tool on an idle machine, several times from the same repository; what counts of them.

    A virtual machine gives unused memory back and has to ask for it again, which takes longer than to use it, and
    caches forget: whoever ran first, or after a tool that needs less, would pay for that. The first time is left out.
    """
    tree, out, home = folder / "tree", folder / "out", folder / "homes" / tool.name
    samples: list[Sample] = []
    begun = [home.with_name(f"begun-{number}") for number in range(repeats)] if stage in BACKUPS else []
    for kept in begun:
        shutil.copytree(home, kept)
    settle()
    for number in range(1 + repeats):
        if begun and number:
            ended = home.rename(home.with_name(f"ended-{number}"))
            begun[number - 1].rename(home)
            if stage == "first":  # its memory is what the next needs; a night is only disturbed by giving back so much
                shutil.rmtree(ended)
        if number and work == "small files":  # ext4 does not use their inodes again for minutes, and looks at each
            out.rename(out.with_name(f"ended-{number}"))
        empty(out)
        os.sync()
        samples.append(timed(work, stage, tool, tree if stage != "restore" else out, home))
        print("warm-up:" if not number else "        ", samples[-1].line(), file=sys.stderr, flush=True)
        if stage == "restore":
            compare(tool, tree, out)
    for left in (out, *folder.glob("ended-*"), *home.parent.glob("ended-*")):
        shutil.rmtree(left)
    return samples[1:]


def settle() -> None:
    """Wait until the machine is idle: what a stage frees is given back to the host for seconds afterwards."""
    os.sync()
    until = time.monotonic() + PATIENCE
    share = 0.0
    while share < IDLE and time.monotonic() < until:
        before = ticks()
        time.sleep(WATCHED)
        idle, every = (now - then for now, then in zip(ticks(), before, strict=True))
        share = idle / every if every else 1.0


def ticks() -> tuple[int, int]:
    """How long all cores have been idle, and how long they have been there at all; nothing where nobody says."""
    try:
        spent = [int(number) for number in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except OSError:
        return 0, 0
    return spent[3] + spent[4], sum(spent)


def empty(folder: Path) -> None:
    """Make a folder, or make it anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def command(tool: Tool, stage: str) -> list[str]:
    """What a stage runs."""
    return {"restore": tool.restore, "check": tool.check}.get(stage, tool.backup)


def timed(work: str, stage: str, tool: Tool, folder: Path, home: Path) -> Sample:
    """Run one stage as a process of its own."""
    before = sum(sizes(home))
    began = time.monotonic()
    process = subprocess.Popen(
        command(tool, stage),
        cwd=folder,
        env=tool.env(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"{tool.name} failed at {stage} of {work}: {said.decode(errors='replace')}")
    objects = sizes(home)
    return Sample(
        work,
        stage,
        tool.name,
        wall,
        used.ru_utime + used.ru_stime,
        used.ru_maxrss / 1024,
        sum(objects) / 1e6,
        (sum(objects) - before) / 1e6,
        len(objects),
    )


def sizes(home: Path) -> list[int]:
    """Bytes of each object in a tool's repository."""
    return [path.stat().st_size for path in (home / "repository").rglob("*") if path.is_file()]


def workload(name: str, tree: Path, number: float) -> None:
    """Make or change a tree, in a process of its own: the memory of this one would count as its children's peak."""
    subprocess.run([sys.executable, Path(__file__).with_name("workloads.py"), name, tree, str(number)], check=True)


def run(tool: Tool, command: list[str], folder: Path) -> None:
    """Run a command that is not measured."""
    done = subprocess.run(command, cwd=folder, env=tool.env(), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{tool.name}: {' '.join(command)} failed: {done.stderr}")


def compare(tool: Tool, tree: Path, out: Path) -> None:
    """What was restored has to be what was saved; a fast wrong restore is none."""
    done = subprocess.run(["diff", "-rq", "--no-dereference", tree, out], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{tool.name} did not restore what it saved: {done.stdout[:2000]}")


if __name__ == "__main__":
    main()
