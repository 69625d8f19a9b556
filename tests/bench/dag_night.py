"""What Airflow costs a night, and what more workers bring: a night by itself, by `dag.test()`, and by a scheduler.

    PYTHONPATH=include:tests:tests/system .venv/bin/python tests/bench/dag_night.py FOLDER [--scale 1] [--parts 1 2]

FOLDER gets a clone of this checkout (what is committed), which shares its environment. One policy protects the 50,000
small files of `./moraine bench`. After a first backup its unchanged night is run by `moraine backup`, by `./moraine
run` (the DAG in this process, by `dag.test()`) and by `./moraine up` (scheduler, LocalExecutor, an API server). Then
the data lake is backed up for the first time in 1, 2, … copy tasks, on as many cores (all of Airflow's processes have
no others): how long from the first of them to begin to the last to end.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import yaml

from airflow_set import PROMPT, AirflowSet, until, up
from bench import workload

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full work")
    parser.add_argument("--parts", type=int, nargs="*", default=[1, 2], help="copy tasks, and cores")
    args = parser.parse_args()
    folder: Path = args.folder.resolve()
    checkout = clone(folder)
    (folder / "passphrase").write_text("of a bench\n")
    workload("small files", folder / "small", args.scale)
    workload("data lake", folder / "lake", args.scale)
    write_policy(folder, checkout, "night", "small")
    for parts in args.parts:
        write_policy(folder, checkout, f"parts-{parts}", "lake", parts)
    alone(folder, checkout)
    running = AirflowSet(checkout, checkout / ".airflow", dict(os.environ))
    with up(running, "up", [*PROMPT, f"core.parallelism={max(args.parts) + 2}"]):
        scheduled(running)
        for parts in args.parts:
            spread(running, parts)


def clone(folder: Path) -> Path:
    """A checkout of its own, so that nothing of this one's Airflow is touched."""
    checkout = folder / "checkout"
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", ROOT, checkout], check=True)
    (checkout / ".venv").symlink_to(ROOT / ".venv")
    shutil.rmtree(checkout / "include/policies")
    (checkout / "include/policies").mkdir()
    return checkout


def write_policy(folder: Path, checkout: Path, name: str, tree: str, parts: int = 1) -> None:
    """A policy over a tree, copied in `parts` tasks."""
    files = [path.lstat().st_size for path in (folder / tree).rglob("*") if path.is_file()]
    policy: dict[str, Any] = {
        "policy": name,
        "source": {"path": str(folder / tree)},
        "repository": {"url": str(folder / f"repository-{name}"), "passphrase_file": str(folder / "passphrase")},
        "shards": {"copy_bytes": -(-sum(files) // parts) + max(files, default=1) // parts, "most": parts},
        "prove": {"sample_files": 0, "sample_bytes": 0},
        "drill": {"schedule": None},
    }
    (checkout / f"include/policies/{name}.yaml").write_text(yaml.safe_dump(policy))
    init = ["repo", "init", policy["repository"]["url"], "--passphrase-file", str(folder / "passphrase")]
    moraine(checkout, *init)


def alone(folder: Path, checkout: Path) -> None:
    """The unchanged night by itself, and by `dag.test()`."""
    file = str(checkout / "include/policies/night.yaml")
    first = moraine(checkout, "backup", "--policy", file)
    engine = min(moraine(checkout, "backup", "--policy", file) for _ in range(3))
    print(f"first backup by itself               {first:6.1f} s")
    print(f"unchanged night by itself            {engine:6.1f} s", flush=True)
    moraine(checkout, "run", "night")  # makes Airflow's home
    print(f"unchanged night by dag.test()        {moraine(checkout, 'run', 'night'):6.1f} s", flush=True)


def scheduled(running: AirflowSet) -> None:
    """The unchanged night by a scheduler, from its trigger to its end; and what its tasks took of that."""
    for _ in range(2):
        run, tasks = finished(running, "night")
        print(f"unchanged night by the scheduler     {seconds(run, 'queued_at', 'end_date'):6.1f} s", flush=True)
    busy = sum(seconds(task, "start_date", "end_date") for task in tasks.values())
    waited = sorted(seconds(task, "queued_when", "start_date") for task in tasks.values() if task["queued_when"])
    print(f"  its {len(tasks)} tasks, from start to end      {busy:6.1f} s")
    print(f"  a task in the queue, median        {waited[len(waited) // 2]:6.1f} s", flush=True)


def spread(running: AirflowSet, parts: int) -> None:
    """A first backup in so many copy tasks, on as many cores, which the whole of Airflow has to share."""
    for pid in running.processes().values():
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            for thread in process.threads():
                os.sched_setaffinity(thread.id, range(parts))
    _, tasks = finished(running, f"parts-{parts}")
    copies = [task for name, task in tasks.items() if name.startswith("copy")]
    begun = min(moment(task["start_date"]) for task in copies)
    wall = (max(moment(task["end_date"]) for task in copies) - begun).total_seconds()
    longest = max(seconds(task, "start_date", "end_date") for task in copies)
    print(
        f"copy of the data lake, {len(copies)} tasks and cores {wall:6.1f} s, the longest {longest:.1f} s", flush=True
    )


def finished(running: AirflowSet, name: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """A run of a policy's DAG, once it has succeeded, and its tasks."""
    dag = f"backup__{name}"
    until(lambda: any(found["dag_id"] == dag for found in running.ask("/api/v2/dags?limit=100")["dags"]), 120, dag)
    running.ask(f"/api/v2/dags/{dag}", {"is_paused": False}, method="PATCH")
    run = running.start(dag)
    running.await_end(dag, run)
    return running.ask(f"/api/v2/dags/{dag}/dagRuns/{run}"), running.tasks(dag, run)


def moraine(checkout: Path, *words: str) -> float:
    """Run `./moraine …` to its end; seconds."""
    begun = time.monotonic()
    done = subprocess.run([checkout / "moraine", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"moraine {' '.join(words)}: {done.stdout}{done.stderr}")
    return time.monotonic() - begun


def seconds(of: Mapping[str, Any], begin: str, end: str) -> float:
    """Between two of its moments."""
    return (moment(of[end]) - moment(of[begin])).total_seconds()


def moment(text: str) -> datetime:
    """A moment as the API writes it."""
    return datetime.fromisoformat(text)


if __name__ == "__main__":
    main()
