"""Data checks between nights: what was broken or lost at the source is told by what the nights recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_lake import Lake, orders
from moraine.engine.footers import TAIL
from moraine.model.snapshot import Snapshot
from moraine.proof import data_set_plan
from moraine.proof.data_sets import CheckResult, DataSetVerdict, validate_data_set

PART = "orders/day=2026-11-02/part-0.parquet"
GROWS: dict[str, Any] = {"name": "o", "paths": "orders/**", "kind": "parquet", "grows": True}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake after its first night."""
    made = Lake(tmp_path)
    made.back_up()
    return made


def night(lake: Lake, change: Callable[[Path], object], name: str = "parquet", **policy: Any) -> DataSetVerdict:
    """One more night after a change at the source, and the drill of it."""
    change(lake.root / PART)
    lake.back_up()
    data_set = lake.plan(**policy)[name]
    return validate_data_set(lake.restore(), data_set, scratch=lake.folder, docs=None, repository=lake.repository)


def failed(verdict: DataSetVerdict) -> list[CheckResult]:
    return [check for check in verdict.checks if not check.passed]


def test_a_file_cut_before_the_backup_fails_and_says_when(lake: Lake) -> None:
    verdict = night(lake, lambda path: path.write_bytes(path.read_bytes()[:-50]))
    (bad,) = failed(verdict)
    assert bad.name == "the footer of every file opens"
    assert bad.detail == (
        f"{PART}: it is cut off: PAR1 is missing at its end; it was broken at the source when it was backed up"
    )


@pytest.mark.parametrize(("dropped", "passes"), [(10, True), (40, False)], ids=["0.05 %", "0.2 %"])
def test_rows_dropped_at_the_source_of_a_table_that_grows(lake: Lake, dropped: int, passes: bool) -> None:
    verdict = night(lake, lambda p: pq.write_table(orders(5000 - dropped, 5000), p), "o", checks=[GROWS])
    bad = failed(verdict)
    assert (not bad) == passes
    if not passes:
        assert [check.detail for check in bad] == [
            "o: expected 20,000 rows, found 19,960: 40 (0.200%) fewer than the snapshot before (tolerance 0.100%)"
        ]


def test_the_tolerance_is_the_policys(lake: Lake) -> None:
    rules = [GROWS | {"rows_tolerance": "0.3%"}]
    assert failed(night(lake, lambda p: pq.write_table(orders(4960, 5000), p), "o", checks=rules)) == []


def test_a_table_that_may_shrink_passes(lake: Lake) -> None:
    assert failed(night(lake, lambda path: path.unlink())) == []


def test_without_a_night_before_growth_is_not_proven(lake: Lake) -> None:
    verdict = validate_data_set(lake.restore(), lake.plan(checks=[GROWS])["o"], scratch=lake.folder, docs=None)
    assert failed(verdict) == []
    assert "that o has not lost rows: no snapshot before it records them" in verdict.not_proven


def shape(**columns: str) -> pa.Table:
    table = orders(5000)
    return table.rename_columns([columns.get(name, name) for name in table.schema.names])


DRIFT = [
    ("renamed", shape(price="cost"), "between its files: gone: price; new: cost"),
    ("retyped", orders(5000, price=pa.array(["1"] * 5000)), "between its files: price was double, is string"),
    ("added", orders(5000, more=pa.array([1] * 5000)), None),
]


@pytest.mark.parametrize(("table", "said"), [case[1:] for case in DRIFT], ids=[case[0] for case in DRIFT])
def test_drift_in_one_part_of_a_table(lake: Lake, table: pa.Table, said: str | None) -> None:
    bad = failed(night(lake, lambda path: pq.write_table(table, path)))
    assert [check.detail for check in bad] == ([f"orders: {said}"] if said else [])


def test_drift_of_a_whole_table_shows_against_the_night_before(lake: Lake) -> None:
    def rewrite(path: Path) -> None:
        for part in (lake.root / "orders").glob("*/*.parquet"):
            pq.write_table(shape(id="order_id"), part)

    (bad,) = failed(night(lake, rewrite))
    assert bad.detail == "orders: since the snapshot before: gone: id; new: order_id"
    allowed = lake.plan(checks=[{"name": "o", "paths": "orders/**", "kind": "parquet", "drift": "allow"}])["o"]
    assert failed(validate_data_set(lake.folder / "restored", allowed, scratch=lake.folder, docs=None)) == []


def test_rows_that_no_night_recorded_are_not_proven(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a repository of before they were recorded."""
    real = data_set_plan._add_up

    def forget(repository: Any, snapshot: Snapshot, wanted: Any) -> Any:
        totals = real(repository, snapshot, wanted)
        for total in totals:
            for table in total.tables.values():
                table.rows, table.unrecorded, table.shapes = 0, table.files, {}
        return totals

    monkeypatch.setattr(data_set_plan, "_add_up", forget)
    verdict = validate_data_set(lake.restore(), lake.plan()["parquet"], scratch=lake.folder, docs=None)
    assert failed(verdict) == []
    assert "rows and columns of orders: the night recorded none of 4 of its files" in verdict.not_proven
    assert "no table came back with fewer rows than recorded, beyond the tolerance" not in [
        check.name for check in verdict.checks
    ]


def test_more_tables_than_travel_are_said(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_set_plan, "MOST_TABLES", 1)
    pq.write_table(orders(3), lake.root / "csv/table.parquet")
    lake.back_up()
    data_set = lake.plan()["parquet"]
    assert list(data_set.recorded["tables"]) == ["csv"] and data_set.recorded["tables_left_out"] == 1
    verdict = validate_data_set(lake.restore(), data_set, scratch=lake.folder, docs=None)
    assert "rows and columns of 1 more tables: only 1 are compared" in verdict.not_proven


def test_what_nobody_can_read_here_is_not_proven_and_hides_no_other(lake: Lake) -> None:
    place = lake.root / "orders/day=2026-11-02/part-0.parquet"
    place.write_bytes(b"PARE" + bytes(2000) + b"PARE")
    huge = lake.root / "orders/day=2026-11-03/part-0.parquet"
    huge.write_bytes(b"PAR1" + bytes(TAIL + 100) + (TAIL + 50).to_bytes(4, "little") + b"PAR1")
    lake.back_up()
    root = lake.restore()
    verdict = validate_data_set(root, lake.plan()["parquet"], scratch=lake.folder, docs=None)
    assert failed(verdict) == []
    assert {c.name: c.found for c in verdict.checks}["the footer of every file opens"] == "all 2"
    said = "\n".join(verdict.not_proven)
    assert "that 1 file can be read: its footer is encrypted (orders/day=2026-11-02/part-0.parquet)" in said
    assert "its footer takes 4,194,354 bytes (orders/day=2026-11-03/part-0.parquet)" in said
    assert "rows and columns of orders: the night recorded none of 2 of its files" in said
    (root / "orders/day=2026-11-01/part-0.parquet").write_bytes(b"PAR1")
    bad = failed(validate_data_set(root, lake.plan()["parquet"], scratch=lake.folder, docs=None))
    assert "the footer of every file opens" in [check.name for check in bad]


def test_a_table_of_many_variants_says_that_not_all_are_compared(lake: Lake) -> None:
    for number in range(21):
        more = {f"more{n}": pa.array([1] * 5) for n in range(number)}
        pq.write_table(orders(5, **more), lake.root / f"orders/day=2026-11-02/{number}.parquet")
    lake.back_up()
    verdict = validate_data_set(lake.restore(), lake.plan()["parquet"], scratch=lake.folder, docs=None)
    assert failed(verdict) == []
    assert "columns of orders: of its many variants only 20 are compared" in verdict.not_proven


def test_rows_that_cannot_be_read_fail_the_suite_that_asks_for_them(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expectation = {"type": "expect_column_to_exist", "kwargs": {"column": "id"}}
    (tmp_path / "mine.json").write_text(json.dumps({"name": "t", "expectations": [expectation]}))
    monkeypatch.setattr("moraine.proof.data_set_rows.SUITES", tmp_path)
    checks = [{"name": "o", "paths": "orders/**", "kind": "parquet", "expectations": ["mine"]}]
    lake.back_up()
    root = lake.restore()
    place = root / "orders/day=2026-11-02/part-0.parquet"
    data = bytearray(place.read_bytes())
    data[4:40] = b"\xff" * 36  # a page; the footer opens
    place.write_bytes(data)
    bad = failed(validate_data_set(root, lake.plan(checks=checks)["o"], scratch=lake.folder, docs=None))
    assert [check.name for check in bad] == ["the rows for suite mine can be read"], bad
    assert bad[0].found.startswith("they cannot be read: ")
