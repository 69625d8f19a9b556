"""The DAGs that look after objectives: red while one is missed, one message for each gap, a heartbeat while well."""

from __future__ import annotations

import email
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_runs import run, states
from drilling import Lake
from moraine.steps.prove import prove
from moraine.workflows import objectives
from moraine.workflows.backup import build_backup_dag
from moraine.workflows.connections import open_repository
from moraine.workflows.objectives import build_digest_dag, build_objectives_dag, late_run
from moraine.workflows.policies import find_policy, read_policies
from night import PASSPHRASE
from test_notify import mails  # noqa: F401  (a fixture)

DAY = timedelta(days=1)
Mails = list[email.message.Message]


class Monitor:
    """Whoever misses a heartbeat."""

    def __init__(self) -> None:
        self.beats: list[str] = []
        monitor = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                monitor.beats.append(self.path)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *words: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/lake"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    found = Monitor()
    yield found
    found.server.shutdown()


class World:
    """A lake that is backed up and proven each night, until it is not."""

    def __init__(self, folder: Path, policies: Path, heartbeat: str, monkeypatch: pytest.MonkeyPatch) -> None:
        open_repository.cache_clear()
        self._folder, self._monkeypatch = folder, monkeypatch
        self.lake = Lake(folder, now=datetime.now(UTC) - 20 * DAY)
        (folder / "passphrase").write_bytes(PASSPHRASE)
        policy = {
            "policy": "lake",
            "source": {"path": str(self.lake.source)},
            "repository": {"url": str(self.lake.repository_path), "passphrase_file": str(folder / "passphrase")},
            "schedule": {"cron": "0 2 * * *"},
            "objectives": {"rpo": "30h", "heartbeat": heartbeat},
            "notify": [{"email": ["night@example.org"], "on": ["objective", "digest"]}],
        }
        (policies / "lake.yaml").write_text(yaml.safe_dump(policy))
        (policies / "free.yaml").write_text("policy: free\nsource: {path: /x}\nrepository: {url: /y}\n")

    def night(self) -> None:
        snapshot = self.lake.night()
        prove(
            self.lake.repository,
            self.lake.policy(),
            snapshot,
            clock=self.lake.clock,
            entropy=lambda size: b"\1" * size,
            scratch=self._folder / "scratch",
        )

    def look(self) -> dict[str, str]:
        """The objectives DAG, at the lake's time."""
        self._monkeypatch.setattr(objectives, "now", self.lake.clock)
        dag = build_objectives_dag(read_policies()[0])
        assert dag
        return states(run(dag))


@pytest.fixture
def world(tmp_path: Path, policies: Path, monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, policies, monitor.url, monkeypatch)


def subjects(mails: Mails) -> list[str]:  # noqa: F811
    return [str(mail["Subject"]) for mail in mails]


def text_of(mail: email.message.Message) -> str:
    (part,) = (part for part in mail.walk() if part.get_content_type() == "text/html")
    return part.get_payload(decode=True).decode()  # type: ignore[union-attr]


def test_two_nights_without_a_run_are_told_once_and_their_end_too(
    world: World,
    monitor: Monitor,
    mails: Mails,  # noqa: F811
) -> None:
    world.night()
    assert world.look() == {"watch[0]": "success 1"}  # `free` promises nothing
    assert (monitor.beats, subjects(mails)) == (["/lake"], [])

    world.lake.clock.advance(days=2)  # no scheduler, no run
    assert world.look() == {"watch[0]": "failed 1"}
    assert world.look() == {"watch[0]": "failed 1"}
    assert subjects(mails) == ["lake: rpo missed"]
    assert "old; the objective (rpo) is 1 day 6 hours" in text_of(mails[0])

    world.lake.clock.advance(days=1)
    world.look()
    assert subjects(mails)[1:] == ["lake: rpo missed by far"]
    assert monitor.beats == ["/lake"], "no heartbeat while an objective is missed"

    world.night()
    assert world.look() == {"watch[0]": "success 1"}
    assert subjects(mails)[2:] == ["lake: rpo met again"]
    assert monitor.beats == ["/lake"] * 2


def test_a_monitor_that_is_away_fails_nothing(world: World, monitor: Monitor, mails: Mails) -> None:  # noqa: F811
    world.night()
    monitor.server.server_close()
    assert world.look() == {"watch[0]": "success 1"}


def test_who_cannot_be_told_now_is_told_later(
    world: World,
    mails: Mails,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world.night()
    world.lake.clock.advance(days=2)
    well = {"conn_type": "smtp", "host": "127.0.0.1", "port": 1, "extra": {"disable_ssl": True, "retry_limit": 0}}
    with monkeypatch.context() as broken:
        broken.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(well))
        assert world.look()["watch[0]"].startswith("failed")
    assert world.look() == {"watch[0]": "failed 1"}
    assert subjects(mails) == ["lake: rpo missed"]


def test_the_week_is_told(world: World, mails: Mails, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    world.night()
    world.night()
    monkeypatch.setattr(objectives, "now", world.lake.clock)
    dag = build_digest_dag(read_policies()[0])
    assert dag and states(run(dag)) == {"digest[0]": "success 1"}
    assert subjects(mails) == ["The week of lake"]
    text = text_of(mails[0])
    assert "All objectives are met." in text and "2 of the snapshots that are kept were made" in text
    assert "Drills: 0, 0 of them failed." in text


def test_a_run_has_a_deadline_and_who_misses_it_is_told(world: World, mails: Mails) -> None:  # noqa: F811
    (alert,) = build_backup_dag(find_policy("lake")).deadline
    assert alert.interval == timedelta(hours=30)
    assert alert.callback.path == "moraine.workflows.objectives.late_run"
    late_run(**alert.callback.kwargs, context={"deadline": {"deadline_time": "2026-05-04T08:00:00Z"}})
    assert subjects(mails) == ["lake: backup is late"]
    assert "has not ended by 2026-05-04T08:00:00Z" in text_of(mails[0])
    free = find_policy("free")
    assert not build_backup_dag(free).deadline
    assert build_objectives_dag([free]) is build_digest_dag([free]) is None
