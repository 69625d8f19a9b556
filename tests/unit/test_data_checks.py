"""Data checks on restored trees, by Great Expectations itself: sound data pass, and each sabotage is told by name."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_lake import Lake, damage, failed, judge, orders, png
from moraine.errors import ConfigError
from moraine.proof.data_sets import validate_data_set
from moraine.proof.expectations import SUITES

PART = "orders/day=2026-11-02/part-0.parquet"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake after its first night; nobody changes it."""
    made = Lake(tmp_path_factory.mktemp("lake"))
    made.back_up()
    return made


@pytest.fixture(scope="module")
def sound(lake: Lake) -> Path:
    return lake.restore()


@pytest.fixture
def restored(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "tree", symlinks=True))


def test_all_kinds_are_found_and_pass(lake: Lake, sound: Path, tmp_path: Path) -> None:
    sets = lake.plan()
    assert list(sets) == ["all files", "parquet", "orc", "csv", "jsonl", "sqlite", "container", "image"]
    assert sets["parquet"].recorded["tables"]["orders"]["rows"] == 20_000
    for name in sets:
        verdict = judge(lake, sound, name, tmp_path)
        assert verdict.checks and failed(verdict) == [], name
    assert len(judge(lake, sound, "all files", tmp_path).checks) == 6
    tables = {check.name: check for check in judge(lake, sound, "parquet", tmp_path).checks}
    assert tables["the footer of every file opens"].found == "all 4"


def test_digests_are_left_to_a_restore_that_has_compared_them(lake: Lake, restored: Path, tmp_path: Path) -> None:
    damage("readme", lambda data: data[::-1])(restored)
    (restored / "new").touch()
    data_set = lake.plan()["all files"]
    parts = {"scratch": tmp_path, "docs": None, "repository": lake.repository}
    verdict = validate_data_set(restored, data_set, digests=False, **parts)
    assert [check.name for check in failed(verdict)][1:] == ["no file is there that the manifest does not hold"]
    assert "every file has its content, by digest" not in [check.name for check in verdict.checks]


def test_counts_and_bytes_tell_expected_and_found(lake: Lake, restored: Path, tmp_path: Path) -> None:
    (restored / PART).unlink()
    files, size = failed(judge(lake, restored, "parquet", tmp_path))[:2]
    assert (files.expected, files.found) == ("4", "3")
    assert int(size.expected.replace(",", "")) - int(size.found.replace(",", "")) > 1000


@pytest.mark.parametrize(("dropped", "passes"), [(10, True), (40, False)], ids=["0.05 %", "0.2 %"])
def test_rows_dropped_from_a_restored_table(
    lake: Lake, restored: Path, tmp_path: Path, dropped: int, passes: bool
) -> None:
    pq.write_table(orders(5000 - dropped, 5000), restored / PART)
    bad = [check for check in failed(judge(lake, restored, "parquet", tmp_path)) if "rows" in check.name]
    assert (not bad) == passes
    if not passes:
        assert bad[0].detail == (
            "orders: expected 20,000 rows, found 19,960: 40 (0.200%) fewer than recorded that night (tolerance 0.100%)"
        )


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"price": pa.array(["1"] * 5000)}, "price"),
        ({"extra": pa.array([1] * 5000)}, "extra"),
    ],
)
def test_other_columns_than_recorded_in_a_restored_table(
    lake: Lake, restored: Path, tmp_path: Path, columns: dict[str, pa.Array], said: str
) -> None:
    pq.write_table(orders(5000, 5000, **columns), restored / PART)
    (bad,) = [c for c in failed(judge(lake, restored, "parquet", tmp_path)) if "columns" in c.name]
    assert bad.detail.startswith(f"{PART}: found columns ") and said in bad.detail


def test_of_a_sample_no_whole_is_said(lake: Lake, restored: Path, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        shutil.rmtree(restored / f"orders/day=2026-11-{number:02}")
    for name in ("parquet", "all files"):
        verdict = judge(lake, restored, name, tmp_path, sampled=True)
        assert failed(verdict) == []
        assert any("were not in the sample" in text for text in verdict.not_proven)
    verdict = judge(lake, restored, "parquet", tmp_path, sampled=True)
    assert "rows of orders: 1 of its 4 files were restored" in verdict.not_proven
    damage("orders/day=2026-11-04/part-0.parquet", lambda d: d[:-1])(restored)
    assert [c.name for c in failed(judge(lake, restored, "parquet", tmp_path, sampled=True))] == [
        "the footer of every file opens"
    ]


def test_what_a_policy_names_is_judged_by_its_words(lake: Lake, sound: Path, tmp_path: Path) -> None:
    csv: dict[str, Any] = {"name": "c", "paths": "csv/**", "kind": "csv"}
    good = [csv | {"columns": ["id", "name", "value"], "delimiter": ";"}]
    assert failed(judge(lake, sound, "c", tmp_path, checks=good)) == []
    (bad,) = failed(judge(lake, sound, "c", tmp_path, checks=[csv | {"delimiter": ","}]))
    assert bad.detail.startswith("csv/0.csv: expected columns separated by ',', found ';'")
    (bad,) = failed(judge(lake, sound, "c", tmp_path, checks=[csv | {"columns": ["id", "value"]}]))
    assert bad.detail.startswith(
        "csv/0.csv: expected columns id, value (separated by ';'), found id, name, value (separated by ';')"
    )
    # what one check names is of no other set
    assert lake.plan(checks=[csv])["c"].recorded["files"] == 3 and "csv" not in lake.plan(checks=[csv])


def test_critical_digests(lake: Lake, restored: Path, tmp_path: Path) -> None:
    entry: dict[str, Any] = {"name": "o", "paths": "orders/**", "kind": "parquet"}
    wrong = {"orders": "rows:" + "0" * 64, PART: "sha256:" + "0" * 64, "gone": "sha256:" + "0" * 64}
    (bad,) = failed(judge(lake, restored, "o", tmp_path, checks=[entry | {"critical": wrong}]))
    assert "gone: expected sha256:" in bad.detail and bad.detail.count("found nothing") == 1
    stated = {line.split(": ")[0]: line.split("found ")[1] for line in bad.detail.split("; ")}
    del stated["gone"]
    rules = [entry | {"critical": stated}]
    assert failed(judge(lake, restored, "o", tmp_path, checks=rules)) == []
    # the same rows in another order and another number of files have the same digest
    rows = pa.concat_tables([pq.read_table(restored / PART), pq.read_table(restored / PART.replace("-02", "-03"))])
    (restored / PART.replace("-02", "-03")).unlink()
    pq.write_table(rows.take(pa.array(range(rows.num_rows - 1, -1, -1))), restored / PART, row_group_size=999)
    (bad,) = [c for c in failed(judge(lake, restored, "o", tmp_path, checks=rules)) if "digest" in c.name]
    assert [line.split(":")[0] for line in bad.detail.split("; ")] == [PART]
    pq.write_table(rows.slice(1), restored / PART)
    (bad,) = [c for c in failed(judge(lake, restored, "o", tmp_path, checks=rules)) if "digest" in c.name]
    assert len(bad.detail.split("; ")) == 2


SUITE = {
    "name": "t",
    "expectations": [
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "price", "min_value": 0, "max_value": 89}},
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "id", "max_value": 14999, "mostly": 0.7}},
        {"type": "expect_table_row_count_to_equal", "kwargs": {"value": 20000}},
        {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "id"}},
        {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "price", "min_value": 40, "max_value": 50}},
        {"type": "expect_column_to_exist", "kwargs": {"column": "day"}},
    ],
}


@pytest.fixture
def suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = Path(shutil.copytree(SUITES, tmp_path / "expectations"))
    for module in ("data_set_rows", "data_set_validate"):
        monkeypatch.setattr(f"moraine.proof.{module}.SUITES", folder)
    monkeypatch.setattr("moraine.proof.table_rows.ROWS", 3000)  # several windows
    return folder


def test_a_policys_suite_holds_for_the_rows_of_all_files(
    lake: Lake, restored: Path, suites: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (suites / "mine.json").write_text(json.dumps(SUITE))
    checks = [{"name": "o", "paths": "orders/**", "kind": "parquet", "expectations": ["mine"]}]
    verdict = judge(lake, restored, "o", tmp_path, checks=checks)
    assert failed(verdict) == [] and len([c for c in verdict.checks if c.name.startswith("expect_")]) == 6
    pq.write_table(orders(5000, 10_000, price=pa.array([7.0] * 4321 + [99.5] + [8.0] * 678)), restored / PART)
    bad = {c.name: c for c in failed(judge(lake, restored, "o", tmp_path, checks=checks))}
    assert set(bad) >= {"expect_column_values_to_be_between", "expect_column_values_to_be_unique"}
    pq.write_table(orders(4999, 10_000), restored / PART)
    (count,) = [c for c in failed(judge(lake, restored, "o", tmp_path, checks=checks)) if "row_count" in c.name]
    assert count.detail == "19,999 rows found"
    assert bad["expect_column_values_to_be_between"].detail == "row 9,322"
    assert bad["expect_column_values_to_be_between"].found == "1 of 20,000 are not so"
    monkeypatch.setattr("moraine.proof.data_set_rows.WHOLE_COLUMN", 1000)
    verdict = judge(lake, restored, "o", tmp_path, checks=checks)
    assert "expect_column_values_to_be_unique" not in {c.name for c in verdict.checks}
    assert sum("it needs whole columns of o" in text for text in verdict.not_proven) == 2


@pytest.mark.parametrize(
    ("kind", "paths", "column"), [("csv", "csv/*", "value"), ("jsonl", "events/*", "n"), ("orc", "orc/*", "price")]
)
def test_a_suite_reads_rows_of_every_kind_of_table(
    lake: Lake, sound: Path, suites: Path, tmp_path: Path, kind: str, paths: str, column: str
) -> None:
    expectation = {"type": "expect_column_values_to_be_between", "kwargs": {"column": column, "max_value": 20}}
    (suites / "mine.json").write_text(json.dumps({"name": "t", "expectations": [expectation]}))
    checks = [{"name": "o", "paths": paths, "kind": kind, "expectations": ["mine"]}]
    (bad,) = failed(judge(lake, sound, "o", tmp_path, checks=checks))
    assert bad.name == "expect_column_values_to_be_between" and bad.detail.startswith("row ")


def test_a_suite_that_is_not_there_is_the_policys_mistake(lake: Lake, sound: Path, tmp_path: Path) -> None:
    checks = [{"name": "o", "paths": "orders/**", "kind": "parquet", "expectations": ["nowhere"]}]
    with pytest.raises(ConfigError, match="no expectation suite nowhere"):
        judge(lake, sound, "o", tmp_path, checks=checks)


def test_a_database_with_a_log_is_checked_as_it_would_open(lake: Lake, restored: Path, tmp_path: Path) -> None:
    place = restored / "catalog.sqlite"
    with closing(sqlite3.connect(place)) as database:
        database.execute("pragma journal_mode=wal")
        database.execute("insert into product values (999999, 'late')")
        database.commit()
        shutil.copyfile(f"{place}-wal", tmp_path / "wal")
        shutil.copyfile(place, tmp_path / "db")
    shutil.copyfile(tmp_path / "wal", f"{place}-wal")
    shutil.copyfile(tmp_path / "db", place)
    before = place.read_bytes()
    found = [c for c in failed(judge(lake, restored, "sqlite", tmp_path)) if "integrity" in c.name]
    assert found == [] and place.read_bytes() == before and not Path(f"{place}-shm").exists()


def test_data_docs_need_nothing_else_and_nothing_is_sent(
    lake: Lake, restored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"the network was asked: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    (restored / "images/a.png").write_bytes(png()[:-9])
    docs = tmp_path / "docs"
    data_set = lake.plan()["image"]
    validate_data_set(restored, data_set, scratch=tmp_path, docs=docs)
    pages = {path.name: path.read_text() for path in docs.iterdir()}
    assert set(pages) == {"image-01-data-counts.html", "image-02-data-images.html"}
    page = pages["image-02-data-images.html"]
    assert "images/a.png" in page and "every image is whole from its first to its last mark" in page
    for text in pages.values():
        assert "http" not in text and "<script" not in text and "src=" not in text
