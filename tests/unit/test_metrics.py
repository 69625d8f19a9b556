"""Metrics as a collector receives them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector import Collector, collecting
from command_line import Line, nightly
from moraine.report.metrics import TABLE, Sample
from moraine.report.otlp import send
from servers import free_port

PAGE = Path(__file__).parents[2] / "docs/METRICS.md"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        yield collector


def test_the_page_has_every_metric_as_the_table_has_it() -> None:
    rows = [row for row in PAGE.read_text().splitlines() if row.startswith("| `moraine.")]
    assert rows == [
        f"| `{name}` | {metric.kind} | {metric.unit} | {', '.join(metric.labels)} | {metric.meaning} |"
        for name, metric in TABLE.items()
    ]


def test_labels_are_few() -> None:
    labels = {label for metric in TABLE.values() for label in metric.labels}
    assert labels == {"policy", "repository", "phase", "outcome", "kind", "store", "operation", "code"}


def test_a_backup_by_command_line(line: Line, collector: Collector, tmp_path: Path) -> None:
    policy = nightly(line)
    found = line.json("backup", "--policy", str(policy))
    assert collector.requests == 1
    assert collector.services == {"moraine"}
    assert {point.name for point in collector.points} == {
        "moraine.run.duration", "moraine.rpo.age", "moraine.window.gap", "moraine.snapshot.logical",
        "moraine.snapshot.added", "moraine.snapshot.stored", "moraine.snapshot.unreadable",
    }  # fmt: skip
    for point in collector.points:
        metric = TABLE[point.name]
        assert tuple(point.labels) == metric.labels
        assert point.unit == metric.unit
        assert point.labels["policy"] == "docs"
    values = {point.name: point.value for point in collector.points}
    assert [values[f"moraine.snapshot.{name}"] for name in ("logical", "added", "stored")] == [
        found["bytes"], found["added"], found["stored"],
    ]  # fmt: skip
    assert 0 <= values["moraine.rpo.age"] < 60
    assert values["moraine.window.gap"] == 0
    (took,) = collector.find("moraine.run.duration", phase="backup", outcome="ok")
    assert (took.kind, took.delta) == ("histogram", True)
    assert took.value == pytest.approx(found["seconds"], abs=0.01)
    assert re.fullmatch(r"/.*/repo", collector.find("moraine.snapshot.logical")[0].labels["repository"])


def test_damage_is_counted_by_kind(line: Line, collector: Collector) -> None:
    line("backup", str(line.source))
    line("check")
    assert collector.find("moraine.integrity.bad") == []
    for pack in line.repo.glob("packs/*/*"):
        pack.unlink()
    problems = line.json("check", code=50)["problems"]
    points = collector.find("moraine.integrity.bad")
    assert {point.labels["kind"]: point.value for point in points} == {
        code: sum(one["code"] == code for one in problems) for code in {one["code"] for one in problems}
    }
    assert points[0].labels["repository"] == str(line.repo)
    assert points[0].delta


def test_without_a_collector_there_is_silence(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    line("backup", str(line.source))
    assert "metrics" not in line.err
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    begun = time.monotonic()
    line("backup", str(line.source))
    assert "metrics were not sent: the collector does not answer" in line.err
    assert time.monotonic() - begun < 10


def test_a_running_total_where_that_is_asked_for(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "cumulative")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "backups")
    damage = Sample("moraine.integrity.bad", 2, {"repository": "r", "kind": "k"})
    environ = {name: value for name, value in os.environ.items() if name.startswith("OTEL_")}
    assert send([damage, damage], environ) is None
    (point,) = collector.points
    assert (point.kind, point.value, point.delta) == ("sum", 4, False)
    assert collector.services == {"backups"}
    assert send([damage], {**environ, "OTEL_SDK_DISABLED": "true"}) is None
    assert collector.requests == 1


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_COMPRESSION"])
def test_a_variable_nobody_understands_fails_no_backup(
    line: Line, collector: Collector, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "seven")
    line("backup", str(line.source))
    assert collector.requests or "metrics were not sent: " in line.err
