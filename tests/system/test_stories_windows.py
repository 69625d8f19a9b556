"""Nights that were missed, through a real scheduler: backfills by REST and by command, catchup, and what is shown."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from airflow_set import ENDED, until
from stories import NIGHTS, World

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(1800)]


def backfill(world: World, policy: str) -> dict[str, Any]:
    """What the form for all nights but the last sends."""
    first, last = world.first_night, world.first_night + timedelta(days=NIGHTS - 2)
    dates = {"from_date": first.isoformat(), "to_date": last.isoformat()}
    return {"dag_id": f"backup__{policy}", **dates, "max_active_runs": 3}


def create_by_command(world: World, flags: dict[str, str]) -> None:
    """Airflow takes its backfill back when another process has written to SQLite meanwhile; then one tries again."""
    words = [word for pair in flags.items() for word in pair]
    for _ in range(5):
        said = world.airflow.command("airflow", "backfill", "create", *words, code=None)
        if world.airflow.ask(f"/api/v2/backfills?dag_id={flags['--dag-id']}")["total_entries"]:
            return
        assert "database is locked" in said
    pytest.fail("SQLite was never free")


def create_by_form(world: World, body: dict[str, Any]) -> None:
    """The same by REST: a 503 says that SQLite was locked, and nothing is left of the backfill."""

    def created() -> bool:
        try:
            world.airflow.ask("/api/v2/backfills", body)
        except AssertionError as error:
            if "/backfills: 503 " not in str(error) or "Database is locked" not in str(error):
                raise
            return False
        return True

    until(created, 60, "SQLite is free")


def ended(world: World, policy: str, kind: str, count: int) -> list[dict[str, str]]:
    """State and tries of the tasks of each run of a kind, in order of their windows, once all have ended."""
    dag = f"backup__{policy}"

    def all_ended() -> list[dict[str, Any]]:
        runs = [run for run in world.airflow.runs(dag) if run["run_type"] == kind]
        return runs if len(runs) == count and all(run["state"] in ENDED for run in runs) else []

    runs = until(all_ended, 600, f"{count} runs of {dag} end")
    runs.sort(key=lambda run: str(run["data_interval_end"]))
    return [world.airflow.tries(dag, run["dag_run_id"]) for run in runs]


def windows(world: World, policy: str) -> list[dict[str, Any]]:
    """What `./moraine coverage` says of the missed nights and the last one."""
    day = f"{world.first_night:%Y-%m-%d}"
    said = world.airflow.command("coverage", policy, "--from", day, "--json")
    return list(json.loads(said)["windows"][:NIGHTS])


def test_a_backfill_over_missed_nights_makes_one_capture(world: World) -> None:
    world.unpause("late-capture")
    ended(world, "late-capture", "scheduled", 1)  # the last night, on time
    body = backfill(world, "late-capture")
    planned = world.airflow.ask("/api/v2/backfills/dry_run", body)["backfills"]
    assert len(planned) == NIGHTS - 1
    create_by_form(world, body)
    nights = ended(world, "late-capture", "backfill", NIGHTS - 1)
    assert [night["open"] for night in nights].count("success 1") == 1
    assert [night["open"] for night in nights].count("skipped 1") == NIGHTS - 2
    assert [night.get("commit", "").split()[0] for night in nights].count("success") == 1
    *missed, last = windows(world, "late-capture")
    assert {window["state"] for window in missed} == {"late"}
    assert len({window["snapshot"] for window in missed}) == 1
    assert last["state"] == "on_time"
    world.assert_restores("late-capture", 2)


@pytest.mark.parametrize("late", ["skip", "fail"])
def test_a_policy_may_refuse_to_capture_late(world: World, late: str) -> None:
    policy = f"late-{late}"
    request = backfill(world, policy)
    flags = {"--dag-id": request["dag_id"], "--from-date": request["from_date"], "--to-date": request["to_date"]}
    world.unpause(policy)
    ended(world, policy, "scheduled", 1)
    create_by_command(world, flags)
    nights = ended(world, policy, "backfill", NIGHTS - 1)
    assert {night["open"] for night in nights} == {"skipped 1" if late == "skip" else "failed 1"}
    *missed, last = windows(world, policy)
    assert {window["state"] for window in missed} == {"missed"}
    assert last["state"] == "on_time"
    if late == "fail":
        dag = request["dag_id"]
        run = next(run["dag_run_id"] for run in world.airflow.runs(dag) if run["run_type"] == "backfill")
        said = world.airflow.log(dag, run, "open")
        assert "was over long before this run" in said
        assert "late: capture" in said
    world.assert_one_snapshot(policy)


def test_catchup_runs_one_missed_night_after_the_other(world: World) -> None:
    world.unpause("catchup")
    seen: list[int] = []

    def watched() -> list[dict[str, str]]:
        states = [run["state"] for run in world.airflow.runs("backup__catchup")]
        seen.append(states.count("running"))
        return len(states) == NIGHTS and all(state in ENDED for state in states)

    until(watched, 600, "all nights are caught up with")
    assert max(seen) == 1
    first, *between, last = ended(world, "catchup", "scheduled", NIGHTS)
    assert set(first.values()) == {"success 1"}
    assert {night["open"] for night in (*between, last)} == {"skipped 1"}, "the first one has captured for all"
    *missed, on_time = windows(world, "catchup")
    assert [window["state"] for window in missed] == ["late"] * (NIGHTS - 1)
    assert on_time["state"] == "on_time"
    world.assert_one_snapshot("catchup")


def test_a_broken_policy_shows_its_reason_and_hurts_no_other(world: World) -> None:
    (error,) = world.airflow.ask("/api/v2/importErrors")["import_errors"]
    assert error["filename"].endswith("policies.py")
    assert "typo.yaml:2: unknown key 'sorce'; did you mean 'source'?" in error["stack_trace"]
    dags = world.airflow.ask("/api/v2/dags?limit=200")["dags"]
    assert len(dags) > 10
    assert not any(dag["has_import_errors"] for dag in dags)
