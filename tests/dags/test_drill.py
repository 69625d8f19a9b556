"""Whole runs of the drill DAG, through Airflow; also when a task is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.models.asset import AssetEvent
from airflow.sdk import DAG
from airflow.utils.session import create_session
from sqlalchemy import select

from airflow_runs import run, states
from drilling import Lake
from moraine.report.drills import reports
from moraine.workflows import drill_tasks
from moraine.workflows.connections import open_repository
from moraine.workflows.drill import build_drill_dag
from moraine.workflows.policies import find_policy
from night import PASSPHRASE

TASKS = ["pick", "plan", "restore", "sets", "validate", "run", "measure", "report", "tear_down"]


class World:
    """A lake with a snapshot, and the policy that drills it."""

    def __init__(self, folder: Path, policies: Path) -> None:
        open_repository.cache_clear()
        self.policies, self.folder = policies, folder
        self.lake = Lake(folder, now=datetime.now(UTC) - timedelta(days=3))  # Airflow's tasks write later
        self.lake.night()
        (folder / "passphrase").write_bytes(PASSPHRASE)

    def dag(self, **drill: Any) -> DAG:
        policy = {
            "policy": "lake",
            "source": {"path": str(self.lake.source)},
            "repository": {
                "url": str(self.lake.repository_path),
                "passphrase_file": str(self.folder / "passphrase"),
            },
            "drill": {"place": {"path": str(self.lake.place)}, "restore": "whole", "seed": 3, "parts": 2, **drill},
        }
        (self.policies / "lake.yaml").write_text(yaml.safe_dump(policy))
        return build_drill_dag(find_policy("lake"))


@pytest.fixture
def world(tmp_path: Path, policies: Path) -> World:
    return World(tmp_path, policies)


def test_a_run_restores_judges_reports_and_tears_down(world: World) -> None:
    found = states(run(world.dag(run={"command": ["test", "-f", "catalog.sqlite"]})))
    sets = 2 + len(["all files", "orders", "events", "catalog.sqlite"])  # two parts, and what is in the lake
    mapped = ["restore[0]", "restore[1]", *(f"validate[{number}]" for number in range(sets))]
    assert set(found) == {task for task in TASKS if task not in ("restore", "validate")} | set(mapped)
    assert set(found.values()) == {"success 1"}
    (report,) = reports(world.lake.repository)
    assert report["passed"] and report["answered"]["passed"] and world.lake.leftovers() == []
    assert world.lake.repository.state.snapshots[report["snapshot"]].proven is not None
    with create_session() as session:
        event = session.scalars(select(AssetEvent).order_by(AssetEvent.id.desc())).first()
        assert event and event.asset.name == "proven snapshots of lake" and event.extra["drill"] == report["drill"]


def test_the_form_names_snapshot_seed_and_amount(world: World) -> None:
    older, _ = world.lake.repository.find("latest").id, world.lake.night()
    run(world.dag(), {"snapshot": older, "seed": 11, "restore": "sample"})
    (report,) = reports(world.lake.repository)
    assert (report["snapshot"], report["seed"], report["whole"], report["pick"]) == (older, 11, False, "named")


def test_damage_fails_the_run_in_report_and_quarantines(world: World) -> None:
    for key in world.lake.packs():
        world.lake.damage(key)
    found = states(run(world.dag()))
    assert found["report"].startswith("failed") and found["tear_down"] == "success 1"
    (report,) = reports(world.lake.repository)
    assert report["sound"] is False and world.lake.leftovers() == []
    assert world.lake.repository.state.snapshots[report["snapshot"]].failed is not None


def test_an_error_of_a_task_is_part_of_the_evidence(world: World) -> None:
    found = states(run(world.dag(place={"path": str(world.lake.place), "quota": "1MiB"})))
    assert found["plan"].startswith("failed") and found["report"].startswith("failed")
    (report,) = reports(world.lake.repository)
    assert report["sound"] is None and "its quota is 1.0 MiB" in report["reasons"][0]
    assert world.lake.leftovers() == [] and found["tear_down"] == "success 1"


@pytest.mark.parametrize("task", ["plan", "restore", "sets", "validate", "run", "measure"])
def test_a_task_that_dies_without_a_word_fails_the_drill_and_nothing_is_left(
    world: World, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*args: Any, **kwargs: Any) -> Any:
        raise SystemExit("as a supervisor sees a process that was killed")

    dies.__name__ = task
    monkeypatch.setattr(drill_tasks, task, dies)
    dag = world.dag(run={"command": ["true"]})
    for each in dag.tasks:
        each.retries = 0
    found = states(run(dag))
    assert found["report"].startswith("failed") and found["tear_down"] == "success 1", found
    (report,) = reports(world.lake.repository)
    assert report["sound"] is None and not report["passed"] and report["reasons"], report["reasons"]
    assert world.lake.leftovers() == []
    assert world.lake.repository.state.snapshots[report["snapshot"]].failed is None


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("task", TASKS)
def test_the_run_after_one_that_was_killed_removes_what_it_left(world: World, task: str) -> None:
    world.dag(run={"command": ["true"]})
    assert in_a_process(world, task).returncode == -9
    again = in_a_process(world)
    assert "ended: success" in again.stdout, again.stdout + again.stderr
    assert world.lake.leftovers() == []
    found = reports(world.lake.repository)
    assert [report["passed"] for report in found] == [True] * (2 if task in ("report", "tear_down") else 1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_application_that_outlives_a_killed_task_is_killed_by_the_next_run(world: World) -> None:
    world.dag(run={"command": ["sh", "-c", "kill -9 $PPID; exec sleep 333"]})
    assert in_a_process(world).returncode == -9
    sleeping = subprocess.run(["pgrep", "-f", "sleep 333"], capture_output=True, text=True).stdout
    world.dag(run={"command": ["true"]})
    assert sleeping and "ended: success" in in_a_process(world).stdout
    assert subprocess.run(["pgrep", "-f", "sleep 333"], capture_output=True, text=True).stdout == ""
    assert world.lake.leftovers() == []


def in_a_process(world: World, *killed: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root / "include"), "MORAINE_POLICIES": str(world.policies)}
    words = [sys.executable, str(Path(__file__).with_name("killed_drill.py")), "lake", *killed]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=400)
