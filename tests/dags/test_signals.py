"""What a collector of metrics hears of a night: of one that goes well, and of one that fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from airflow_runs import run
from collector import Collector, collecting
from moraine.report.metrics import TABLE
from moraine.steps.init import init_repository
from moraine.stores.open import open_store
from moraine.workflows.backup import build_backup_dag
from moraine.workflows.policies import find_policy

STEPS = {"open", "list", "diff", "gate", "copy", "verify", "commit", "prove", "retain", "close"}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        yield collector


@pytest.fixture
def source(policies: Path, tmp_path: Path) -> Path:
    url, source = str(tmp_path / "repository"), tmp_path / "source"
    init_repository(open_store(url), None, clock=lambda: datetime.now(UTC), entropy=os.urandom)
    source.mkdir()
    for number in range(8):
        (source / f"file {number}").write_bytes(os.urandom(1000))
    policy = {
        "policy": "heard",
        "source": {"path": str(source)},
        "repository": {"url": url},
        "schedule": {"cron": "0 2 * * *"},
        "shards": {"copy_files": 4},
    }
    (policies / "heard.yaml").write_text(yaml.safe_dump(policy))
    return source


def test_two_nights(source: Path, collector: Collector) -> None:
    assert str(run(build_backup_dag(find_policy("heard"))).state) == "success"
    durations = collector.find("moraine.run.duration", policy="heard", outcome="ok")
    assert {point.labels["phase"] for point in durations} == STEPS
    parts = len(collector.find("moraine.run.duration", phase="copy"))
    assert parts > 1
    assert len(collector.find("moraine.run.throughput", phase="copy")) == parts
    assert [point.value for point in collector.find("moraine.snapshot.logical", policy="heard")] == [8000]
    assert len(collector.find("moraine.rpo.age")) == len(collector.find("moraine.window.gap")) == 1
    assert all(set(point.labels) == set(TABLE[point.name].labels) for point in collector.points)
    assert not any(label.startswith("01") for point in collector.points for label in point.labels.values())

    collector.points.clear()
    for file in source.iterdir():
        file.unlink()
    assert str(run(build_backup_dag(find_policy("heard"))).state) == "failed"
    (refused,) = collector.find("moraine.run.duration", phase="gate")
    assert refused.labels["outcome"] == "gate-refused"
    assert [point.value for point in collector.find("moraine.snapshot.logical")] == [8000]  # how it still stands
    assert collector.find("moraine.rpo.age")
