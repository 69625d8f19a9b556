"""A run that fails, is killed or wakes up again ends in one snapshot, through a real scheduler."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from airflow_set import until
from moraine.stores.local import LocalStore
from restored import assert_restores
from stories import World

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(1800)]

# Where each task of a night is killed -9 on its first try: before it has done anything that lasts, or right after.
BEFORE = {
    "open": {"at": "begin"},
    "list": {"at": "put"},
    "diff": {"at": "put", "skip": 1},
    "gate": {"at": "begin"},
    "copy": {"at": "put", "keys": "packs/*", "part": 1},
    "verify": {"at": "put", "part": 0},
    "commit": {"at": "put", "keys": "log/*"},
    "prove": {"at": "put"},
    "retain": {"at": "begin"},
    "close": {"at": "delete"},
}
AFTER = {
    "open": {"at": "put", "keys": "log/*", "after": True},
    "list": {"at": "end"},
    "diff": {"at": "end"},
    "gate": {"at": "end"},
    "copy": {"at": "put", "keys": "packs/*", "after": True, "part": 0},
    "verify": {"at": "put", "after": True, "part": 1},
    "commit": {"at": "put", "keys": "log/*", "after": True},
    "prove": {"at": "put", "keys": "log/*", "after": True},
    "retain": {"at": "end"},
    "close": {"at": "delete", "skip": 2, "after": True},
}
SHARD_FAILS = {"task": "copy", "part": 1, "at": "put", "keys": "packs/*", "do": "denied"}


@pytest.fixture(scope="module")
def runs(world: World) -> dict[str, str]:
    """Runs of the stories that need not be alone, all started at once: they also meet in one repository."""
    for policy in ("by-rest", "by-command", "aged", "given-up", "swept"):
        world.order("shard", policy, **SHARD_FAILS)
    world.order("clock", "aged", days=5)
    world.order("clock", "given-up", days=16)
    for policy, points in (("killed-before", BEFORE), ("killed-after", AFTER)):
        for task, point in points.items():
            world.order(task, policy, task, do="kill", **point)
    world.order("shard", "balloon", "copy", part=0, at="put", keys="packs/*", do="balloon")
    world.order("shard", "passing", "copy", part=1, at="put", keys="packs/*", do="unavailable", tries=[1, 2])
    world.order("shard", "zombie", "copy", part=0, at="put", keys="packs/*", do="freeze")
    world.order("commit", "zombie", "commit", at="put", keys="log/*", do="freeze")
    policies = ["zombie", "killed-before", "killed-after", "by-rest", "by-command", "aged", "given-up", "swept"]
    return {policy: world.start(policy) for policy in [*policies, "balloon", "passing"]}


@pytest.mark.parametrize("policy", ["by-rest", "by-command"])
def test_a_failed_shard_is_cleared_and_only_that_is_done_again(world: World, runs: dict[str, str], policy: str) -> None:
    dag, run = f"backup__{policy}", runs[policy]
    broken = world.end(policy, run, "failed")
    assert broken["copy[1]"] == "failed 1", "a terminal error must not be tried again"
    done = {name: tries for name, tries in broken.items() if tries.startswith("success")}
    assert {"open", "list[0]", "diff", "gate", "copy[0]"} < done.keys()
    assert broken["commit"].startswith("upstream_failed")
    assert world.snapshots(policy) == []
    assert "access-denied: injected" in world.airflow.log(dag, run, "copy", 1, 1)
    if policy == "by-rest":
        world.airflow.clear(dag, run, ["copy", 1], failed=True)
    else:  # what Airflow calls a regex is a part of the name
        words = ["--task-regex", "copy", "--only-failed", "--downstream", "--yes"]
        world.airflow.command("airflow", "tasks", "clear", *words, dag)
    after = world.end(policy, run)
    assert after["copy[1]"] == "success 2"
    assert {name: after[name] for name in done} == done, "nothing that had been done was done again"
    assert {tries.split()[0] for tries in after.values()} == {"success"}
    world.assert_one_snapshot(policy)


def test_days_later_the_run_goes_on_from_its_working_files(world: World, runs: dict[str, str]) -> None:
    world.end("aged", runs["aged"], "failed")
    (session,) = world.repository("aged").state.sessions.values()
    assert (time.time() - session.opened_at.timestamp()) / 86400 == pytest.approx(5, abs=0.1)
    world.airflow.clear("backup__aged", runs["aged"], ["copy", 1], failed=True)
    after = world.end("aged", runs["aged"])
    assert (after["open"], after["copy[0]"], after["copy[1]"]) == ("success 1", "success 1", "success 2")
    world.assert_one_snapshot("aged")
    (record,) = world.repository("aged").state.live("aged")
    assert record.captured_at == session.opened_at, "it shows the source as it was listed then"


def test_a_session_that_was_given_up_says_what_to_clear_instead(world: World, runs: dict[str, str]) -> None:
    dag, run = "backup__given-up", runs["given-up"]
    world.end("given-up", run, "failed")
    for order in world.orders.glob("given-up-*.json"):
        order.unlink()
    world.end("given-up", world.start("given-up"))  # two weeks later: gives the old session up
    assert len(world.snapshots("given-up")) == 1
    world.airflow.clear(dag, run, ["copy", 1], failed=True)
    assert world.end("given-up", run, "failed")["copy[1]"] == "failed 2"
    said = world.airflow.log(dag, run, "copy", 2, 1)
    assert "session-closed" in said
    assert "clear the run's `open` task and everything after it" in said
    world.airflow.clear(dag, run, "open")
    assert world.end("given-up", run)["open"] == "success 2"
    world.assert_restores("given-up", 2)


def test_a_session_without_working_files_says_what_to_clear_instead(world: World, runs: dict[str, str]) -> None:
    dag, run = "backup__swept", runs["swept"]
    world.end("swept", run, "failed")
    repository = world.repository("swept")
    (session,) = repository.state.sessions
    assert isinstance(repository.store, LocalStore)
    shutil.rmtree(Path(repository.store.url.removeprefix("file://")) / "sessions" / session)
    world.airflow.clear(dag, run, ["copy", 1], failed=True)
    assert world.end("swept", run, "failed")["copy[1]"] == "failed 2"
    said = world.airflow.log(dag, run, "copy", 2, 1)
    assert "session-gone" in said
    assert "clear the run's `open` task and everything after it" in said
    world.airflow.clear(dag, run, "open")
    assert world.end("swept", run)["open"] == "success 2"
    world.assert_one_snapshot("swept")


@pytest.mark.parametrize(("policy", "points"), [("killed-before", BEFORE), ("killed-after", AFTER)])
def test_every_task_of_a_night_is_killed_once(
    world: World, runs: dict[str, str], policy: str, points: dict[str, dict[str, object]]
) -> None:
    after = world.end(policy, runs[policy])
    killed = {task if "part" not in point else f"{task}[{point['part']}]" for task, point in points.items()}
    killed = {"list[0]" if name == "list" else name for name in killed}
    assert {name for name, tries in after.items() if tries == "success 2"} == killed
    assert {tries for name, tries in after.items() if name not in killed} == {"success 1"}
    world.assert_one_snapshot(policy)


def test_a_task_that_eats_all_memory_is_done_again(world: World, runs: dict[str, str]) -> None:
    after = world.end("balloon", runs["balloon"])
    assert after["copy[0]"] == "success 2"
    assert "MemoryError" in world.airflow.log("backup__balloon", runs["balloon"], "copy", 1, 0)
    world.assert_one_snapshot("balloon")


def test_a_store_that_fails_for_a_while_is_waited_for(world: World, runs: dict[str, str]) -> None:
    after = world.end("passing", runs["passing"])
    assert after["copy[1]"] == "success 3"
    for number in (1, 2):
        said = world.airflow.log("backup__passing", runs["passing"], "copy", number, 1)
        assert "store-unavailable: injected" in said
        assert "may go through later" in said
    world.assert_one_snapshot("passing")


def test_zombies_that_wake_up_change_nothing(world: World, runs: dict[str, str]) -> None:
    after = world.end("zombie", runs["zombie"], seconds=900)
    assert (after["copy[0]"], after["commit"]) == ("success 2", "success 2")
    (snapshot,) = world.snapshots("zombie")
    for name in ("shard", "commit"):
        ((task, supervisor),) = world.met(world.orders / f"zombie-{name}.json")
        os.kill(task, signal.SIGCONT)  # alone at first: its supervisor would end it
        time.sleep(3)
        os.kill(supervisor, signal.SIGCONT)
        until(lambda task=task: not Path(f"/proc/{task}").exists(), 180, f"{name} has ended")
    assert world.snapshots("zombie") == [snapshot]
    assert world.airflow.tries("backup__zombie", runs["zombie"]) == after, "Airflow did not listen to them either"
    assert_restores(world.repository("zombie"), snapshot, world.tree("zombie"))


def test_two_runs_of_a_policy_at_once_beside_another_policy(world: World) -> None:
    held = world.order("shard", "one", "copy", part=0, at="put", keys="packs/*", do="wait")
    first = world.start("one")
    other = world.start("two")
    world.await_met(held)
    second = world.start("one")
    file = world.airflow.checkout / "include/policies/one.yaml"
    world.airflow.command("backup", "--policy", str(file), "--passphrase-file", str(world.folder / "passphrase"))
    assert len(world.snapshots("one")) == 1, "one run is in the middle of its copy, another one has come and gone"
    assert world.airflow.state("backup__one", second) == "queued", "Airflow runs one at a time"
    held.unlink()
    for policy, run in (("one", first), ("two", other)):
        assert set(world.end(policy, run).values()) == {"success 1"}
    assert world.end("one", second)["copy"].startswith("skipped"), "nothing is left to copy"
    world.assert_restores("one", 3)
    world.assert_one_snapshot("two")


def test_scheduler_and_api_server_are_killed_in_the_middle_of_a_run(world: World) -> None:
    orders = [
        world.order("copying", "restarts", "copy", part=0, at="put", keys="packs/*", do="wait"),
        world.order("verifying", "restarts", "verify", part=0, at="put", do="wait"),
    ]
    run = world.start("restarts")
    try:
        for order, service in zip(orders, ("scheduler", "api-server"), strict=True):
            world.await_met(order)
            before = world.airflow.processes()[service]
            os.kill(before, signal.SIGKILL)
            until(
                lambda service=service, before=before: world.airflow.processes()[service] != before, 180, "it is back"
            )
            order.unlink()
    finally:  # a task that waits for ever would keep a scheduler that wants to end
        for order in orders:
            order.unlink(missing_ok=True)
    after = world.end("restarts", run)
    assert {state.split()[0] for state in after.values()} == {"success"}
    assert after["copy[1]"] == "success 1"
    copied = world.airflow.log("backup__restarts", run, "copy", int(after["copy[0]"].split()[1]), 0)
    assert copied.count("copy, done") == 1, "its worker went down with the scheduler; the next one has done it"
    world.assert_one_snapshot("restarts")
