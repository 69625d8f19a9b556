"""Whole runs of the DAGs, through Airflow, on a real source and a real repository."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from airflow.models.asset import AssetEvent
from airflow.sdk import DAG
from airflow.utils.session import create_session
from sqlalchemy import select

import moraine.steps.route
from airflow_runs import clear_failed, go_on, run, states
from compare import compare_trees
from moraine.errors import DamagedObject, MoraineError, StoreUnavailable
from moraine.report.coverage import coverage
from moraine.repository import key_slots
from moraine.repository.repository import Repository
from moraine.steps.init import init_repository
from moraine.stores.local import LocalStore
from moraine.workflows import task_context
from moraine.workflows.backup import build_backup_dag
from moraine.workflows.connections import open_repository
from moraine.workflows.policies import find_policy
from moraine.workflows.restore import build_restore_dag

PASSPHRASE = b"correct horse"


@dataclass
class Place:
    """A source, a repository, and the policy that joins them."""

    folder: Path
    policies: Path

    @property
    def source(self) -> Path:
        return self.folder / "source"

    @property
    def repository(self) -> Repository:
        return Repository.open(LocalStore(self.folder / "repository"), lambda: PASSPHRASE, entropy=os.urandom)

    def dag(self, **parts: Any) -> DAG:
        policy = {
            "policy": "place",
            "source": {"path": str(self.source)},
            "repository": {
                "url": str(self.folder / "repository"),
                "passphrase_file": str(self.folder / "passphrase"),
            },
            "gate": {"min_files_for_shares": 1},
            **parts,
        }
        (self.policies / "place.yaml").write_text(yaml.safe_dump(policy))
        return build_backup_dag(find_policy("place"))

    def restore(self, **form: Any) -> dict[str, str]:
        conf = {"policy": "place", "target": str(self.folder / "restored"), "dry_run": False, **form}
        return states(run(build_restore_dag(["place"]), conf))


@pytest.fixture
def place(tmp_path: Path, policies: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setitem(key_slots.SCRYPT, "n", 1 << 4)
    open_repository.cache_clear()
    for number in range(30):
        file = tmp_path / f"source/folder {number % 3}/file-{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"line {number}\n" * 500)
    (tmp_path / "passphrase").write_bytes(PASSPHRASE + b"\n")
    store = LocalStore(tmp_path / "repository")
    init_repository(store, lambda: PASSPHRASE, clock=lambda: datetime.now(UTC), entropy=os.urandom)
    return Place(tmp_path, policies)


def fail_once(monkeypatch: pytest.MonkeyPatch, error: MoraineError, shard: int) -> None:
    """The copy of one shard fails the first time."""
    real: Callable[..., Any] = moraine.steps.route.copy_shard
    failed: list[int] = []

    def copy_shard(run: Any, changes: str, number: int, **more: Any) -> Any:
        if number == shard and not failed:
            failed.append(number)
            raise error
        return real(run, changes, number, **more)

    monkeypatch.setattr(moraine.steps.route, "copy_shard", copy_shard)


def test_a_night_is_backed_up_and_comes_back_equal(place: Place) -> None:
    backup = run(place.dag())
    assert set(states(backup).values()) == {"success 1"}
    assert set(place.restore().values()) == {"success 1"}
    assert compare_trees(place.source, place.folder / "restored") == []
    with create_session() as session:
        event = session.scalars(select(AssetEvent).order_by(AssetEvent.id.desc())).first()
    assert event is not None
    assert event.extra["snapshot"] == place.repository.find("latest").id
    assert set(event.extra) == {"snapshot", "window", "bytes", "added", "digest"}


def test_a_night_without_changes_commits_too(place: Place) -> None:
    dag = place.dag(rehash=0.0)
    run(dag)
    again = states(run(dag))
    assert again["commit"] == "success 1"
    assert again["close"] == "success 1"
    first, second = place.repository.state.live()
    assert (first.files, second.added) == (second.files, 0)


def test_parts_are_copied_side_by_side_and_named(place: Place) -> None:
    backup = run(place.dag(shards={"list": 2, "copy_files": 10}))
    mapped = [name for name in states(backup) if name.startswith("copy[")]
    assert len(mapped) > 1
    with create_session() as session:
        labels = [ti.rendered_map_index for ti in session.merge(backup).get_task_instances(session=session)]
    assert any("entries" in (label or "") for label in labels)


def test_a_failed_part_is_cleared_and_only_that_is_done_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_once(monkeypatch, DamagedObject("a flipped bit"), shard=1)
    dag = place.dag(shards={"copy_files": 10})
    broken = run(dag)
    assert broken.state == "failed"
    before = states(broken)
    assert before["copy[0]"] == "success 1"
    assert before["copy[1]"] == "failed 1", "a terminal error must not be tried again"
    assert before["commit"].startswith("upstream_failed")
    assert before["close"] == "success 1"
    assert place.repository.state.live() == []
    clear_failed(dag, broken)
    assert go_on(dag, broken) == "success"
    after = states(broken)
    assert after["copy[0]"] == "success 1"
    assert after["copy[1]"] == "success 2"
    assert after["open"] == "success 1"
    place.restore()
    assert compare_trees(place.source, place.folder / "restored") == []


def test_a_transient_error_is_tried_again_by_airflow(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_once(monkeypatch, StoreUnavailable("busy"), shard=0)
    ended = states(run(place.dag()))
    assert ended["copy[0]"] == "success 2"
    assert ended["commit"] == "success 1"


def test_the_gate_stops_a_mass_deletion_unless_it_is_let_through(place: Place) -> None:
    run(place.dag(keep={"last": 1}))
    for file in list(place.source.glob("*/*"))[:-1]:
        file.unlink()
    refused = states(run(place.dag(keep={"last": 1})))
    assert refused["gate"] == "failed 1"
    assert refused["close"] == "success 1"
    assert len(place.repository.state.live()) == 1
    allowed = states(run(place.dag(keep={"last": 1}), {"allow_change": True, "retain_dry_run": True}))
    assert allowed["commit"] == "success 1"
    assert len(place.repository.state.live()) == 2
    assert states(run(place.dag(keep={"last": 1})))["retain"] == "success 1"
    assert len(place.repository.state.live()) == 1


def test_a_missing_source_fails_before_anything_is_written(place: Place) -> None:
    dag = place.dag(source={"path": str(place.folder / "nowhere")})
    missing = run(dag)
    assert missing.state == "failed"
    ended = states(missing)
    assert ended["open"] == "failed 1"
    assert ended["close"] == "success 1"
    assert place.repository.state.sessions == {}


def test_a_dry_run_restores_nothing(place: Place) -> None:
    run(place.dag())
    ended = place.restore(dry_run=True)
    assert ended == {"plan": "success 1", "execute": "skipped 1", "verify": "skipped 0"}
    assert not (place.folder / "restored").exists()


def test_a_part_as_it_was_at_a_time(place: Place) -> None:
    dag = place.dag()
    run(dag)
    between = datetime.now(UTC).isoformat()
    file = place.source / "folder 0/file-0.txt"
    before = file.read_bytes()
    file.write_text("changed")
    run(dag)
    ended = place.restore(at=between, paths=["folder 0"])
    assert set(ended.values()) == {"success 1"}
    assert (place.folder / "restored/folder 0/file-0.txt").read_bytes() == before
    assert [path.name for path in (place.folder / "restored").iterdir()] == ["folder 0"]


def test_a_backfill_over_missed_nights_makes_one_capture(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    day, nights = timedelta(days=1), []
    dag = place.dag(schedule={"cron": "0 2 * * *"})
    first = datetime.now(UTC).replace(hour=2, minute=0, second=0, microsecond=0) - 5 * day
    for start in (first, first + day, first + 2 * day):
        night = SimpleNamespace(
            run_type="backfill", dag_id="d", run_id=str(start), data_interval_start=start, data_interval_end=start + day
        )
        real = task_context.get_current_context
        with monkeypatch.context() as patch:
            patch.setattr(
                task_context, "get_current_context", lambda real=real, night=night: {**real(), "dag_run": night}
            )
            nights.append(states(run(dag)))
    assert set(nights[0].values()) == {"success 1"}
    assert [night["open"] for night in nights[1:]] == ["skipped 1"] * 2
    assert all("commit" in night and night["commit"].startswith("skipped") for night in nights[1:])
    report = coverage(place.repository, find_policy("place"), now=datetime.now(UTC), start=first)
    snapshot = place.repository.find("latest").id
    assert {(str(item.state), item.snapshot) for item in report.windows[:3]} == {("late", snapshot)}
    assert len(place.repository.state.live()) == 1
