"""A whole drill of a data lake with Parquet, CSV, JSON lines, SQLite and images, by the command, with its pace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moraine.demo import content
from moraine.demo.lake import make_lake

ROOT = Path(__file__).parents[2]
DAY = date(2026, 3, 1)

POLICY = """
policy: lake
source: {{path: {folder}/lake}}
repository: {{url: {folder}/repository, passphrase_file: {folder}/pass}}
drill:
  restore: whole
  place: {{path: {folder}/place}}
  run: {{command: [{python}, -c, "{ask}"], timeout: 5min}}
objectives: {{rto: 1h}}
"""
ASK = (
    "import sqlite3, pyarrow.dataset as ds; "
    "print(ds.dataset('orders').count_rows(), 'orders,',"
    " sqlite3.connect('catalog.sqlite').execute('select count(*) from product').fetchone()[0], 'products')"
)


def grow(lake: Path, bytes_wanted: int) -> None:
    """Add tables, landing files and images of the demo's kinds until the lake is large enough."""
    total = sum(path.stat().st_size for path in lake.rglob("*") if path.is_file())
    for name, data in _more():
        if total >= bytes_wanted:
            return
        path = lake / "big" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        total += len(data)


def _more() -> Iterator[tuple[str, bytes]]:
    for number in range(10_000):
        rng, day = np.random.default_rng(number), DAY + timedelta(days=number)
        yield f"orders/day={day}/part-0.parquet", content.parquet_bytes(content.orders(rng, day, 500_000))
        yield f"weather/{day}.csv", content.readings_csv(rng, day, 1, 400_000)
        yield f"events/{day}.jsonl", content.events_jsonl(rng, day, 3, 50_000)
        yield f"images/{number}.png", content.picture_png(rng, 512)


def moraine(folder: Path, *words: str) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "include"),
        "MORAINE_REPOSITORY": str(folder / "repository"),
        "MORAINE_PASSPHRASE_FILE": str(folder / "pass"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "moraine", *words], env=environment, capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("size", [40 << 20, pytest.param(1 << 30, marks=pytest.mark.slow)])
@pytest.mark.timeout(1200)
def test_a_lake_is_drilled_green_with_its_pace_measured(tmp_path: Path, size: int) -> None:
    make_lake(tmp_path / "lake")
    grow(tmp_path / "lake", size)
    (tmp_path / "pass").write_text("a lake's passphrase\n")
    (tmp_path / "lake.yaml").write_text(POLICY.format(folder=tmp_path, python=sys.executable, ask=ASK))
    moraine(tmp_path, "repo", "init")
    moraine(tmp_path, "backup", "--policy", "lake.yaml", "-q")
    report = Path(os.environ.get("MORAINE_DRILL_PAGE", tmp_path / "drill.html"))
    held: dict[str, Any] = json.loads(
        moraine(tmp_path, "drill", "lake.yaml", "--seed", "1", "--json", "--report", str(report))
    )
    assert held["passed"] and held["sound"], held["reasons"]
    measured = held["measured"]
    assert measured["full_bytes"] >= size and measured["within"] and 0 < measured["forecast_seconds"] < 3600
    assert all(check["passed"] for check in held["checks"])
    assert not list((tmp_path / "place").iterdir())
    print(f"{measured['files']:,} files, {measured['bytes'] >> 20:,} MiB in {measured['seconds']:.1f} s, ", end="")
    print(f"{measured['bytes_per_second'] / 1e6:,.0f} MB/s; forecast {measured['forecast_seconds']:.1f} s")
