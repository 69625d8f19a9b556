"""The demo lake: the same for the same seed, and a night changes little."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from moraine.demo import lake


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lake, "DAYS", 3)


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and not p.is_symlink()}


def test_a_day_is_the_same_for_the_same_seed() -> None:
    one, two = (dict(lake._day(np.random.default_rng(7), lake.FIRST_DAY)) for _ in range(2))
    assert one == two
    assert one != dict(lake._day(np.random.default_rng(8), lake.FIRST_DAY))


def test_the_lake_holds_what_it_says(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    lake.make_lake(root)
    tables = list(root.rglob("*.parquet"))
    assert len(tables) == 6
    assert pq.read_table(tables[0]).num_rows == 4_000
    with closing(sqlite3.connect(root / "catalog.sqlite")) as database:
        assert database.execute("select count(*) from product").fetchone() == (20_000,)
    assert (root / "images/product-000.png").read_bytes().startswith(b"\x89PNG")
    assert (root / "orders/latest").is_symlink()
    assert os.stat(root / "models/ranker/weights.bin").st_nlink == 2
    assert not (tmp_path / "lake.making").exists()


def test_a_night_adds_changes_moves_and_deletes_a_little(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    lake.make_lake(root)
    before = files(root)
    lake.live_a_night(root, 1)
    after = files(root)
    changed = {name for name in before.keys() & after.keys() if before[name] != after[name]}
    assert "catalog.sqlite" in changed
    assert "logs/search/current.log" in changed
    assert after.keys() - before.keys() >= {"notebooks/finished/study-01.ipynb"}
    assert before.keys() - after.keys() == {
        "notebooks/study-01.ipynb", *(f"logs/{service}/{lake.FIRST_DAY}.log.gz" for service in lake.SERVICES)
    }  # fmt: skip
    assert len(changed) < 12


def test_half_a_lake_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "lake.making").mkdir()
    (tmp_path / "lake.making/rest").write_text("of an interrupted first run")
    lake.make_lake(tmp_path / "lake")
    assert not (tmp_path / "lake/rest").exists()
