"""SQL over real snapshots: right, lazy, read-only."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from moraine.errors import ConfigError, DamagedObject
from moraine.report.files_table import FILES
from moraine.report.query import json_value, query
from moraine.repository.repository import Repository
from report_world import Watched, World


def ask(repository: Repository, sql: str, scratch: Path) -> list[tuple[Any, ...]]:
    with query(repository, sql, scratch=scratch) as answer:
        return [row for batch in answer.batches for row in batch]


def test_sql_over_all_snapshots(world: World, tmp_path: Path) -> None:
    sql = "select policy, count(*), sum(size) from files where kind = 'file' group by 1 order by 1"
    sizes = {record.policy: 0 for record in world.repository.state.live()}
    for record in world.repository.state.live():
        sizes[record.policy] += record.bytes
    assert ask(world.repository, sql, tmp_path) == [("lake", 10, sizes["lake"]), ("pond", 5, sizes["pond"])]


def test_sql_columns_mean_what_they_say(world: World, tmp_path: Path) -> None:
    sql = f"select * from files where snapshot = '{world.second}' and name = 'a.csv'"
    row = dict(zip(FILES.names, ask(world.repository, sql, tmp_path)[0], strict=True))
    status = (world.root / "a.csv").stat()
    assert (row["path"], row["dir"], row["kind"], row["size"]) == ("a.csv", "", "file", 7)
    assert (row["mode"], row["uid"], row["inode"]) == (status.st_mode & 0o7777, status.st_uid, status.st_ino)
    modified = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=status.st_mtime_ns // 1000)
    assert row["mtime"] == modified.replace(tzinfo=None)
    assert row["state"] in ("ok", "racy")


def test_sql_joins_snapshots_and_files(world: World, tmp_path: Path) -> None:
    sql = "select s.policy, count(*) from files f join snapshots s on s.id = f.snapshot group by all order by 1"
    assert ask(world.repository, sql, tmp_path) == [("lake", 20), ("pond", 10)]
    twice = (
        f"select a.path from files a join files b using (path) where a.snapshot = '{world.first}'"
        f" and b.snapshot = '{world.second}' and a.digest <> b.digest"
    )
    assert ask(world.repository, twice, tmp_path) == [("a.csv",)]


def test_sql_names_are_safe_text_and_exact_bytes(world: World, tmp_path: Path) -> None:
    sql = "select distinct path, path_bytes from files where path like 'odd%'"
    assert ask(world.repository, sql, tmp_path) == [("odd\\xff\\n", b"odd\xff\n")]


@pytest.mark.parametrize(
    ("where", "read"),
    [
        ("true", [0, 1, 2]),
        ("policy = 'pond'", [2]),
        ("policy <> 'pond' and size > 5", [0, 1]),
        ("captured_at > '2026-11-04'", [2]),
        ("policy = 'none'", []),
    ],
)
def test_sql_reads_only_what_the_query_needs(world: World, tmp_path: Path, where: str, read: list[int]) -> None:
    watched = Watched(world.repository)
    rows = ask(watched, f"select sum(size) from files where {where}", tmp_path)  # type: ignore[arg-type]
    assert len(rows) == 1
    ids = [world.first, world.second, world.other]
    assert watched.read == [(ids[number], ["size"]) for number in read]


def test_sql_stops_reading_when_it_has_enough(world: World, tmp_path: Path) -> None:
    watched = Watched(world.repository)
    assert len(ask(watched, "select path from files limit 1", tmp_path)) == 1  # type: ignore[arg-type]
    assert [snapshot for snapshot, _ in watched.read] == [world.first]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("selec 1", "syntax error"),
        ("select nme from files", 'Referenced column "nme" not found'),
        ("select 1; select 2", "not 2 statements"),
        ("  ", "not 0 statements"),
        ("create table x (a int)", "type CREATE"),
        ("copy (select 1) to '/tmp/stolen.csv'", "type COPY"),
        ("attach '/tmp/x.db'", "type ATTACH"),
        ("select * from read_csv('/etc/passwd')", "disabled by configuration"),
        ("select * from '/etc/passwd.parquet'", "disabled by configuration"),
        ("select cast(path as int) from files", "Could not convert"),
    ],
)
def test_sql_that_is_refused(world: World, tmp_path: Path, sql: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ask(world.repository, sql, tmp_path)
    assert message in caught.value.message
    assert "\n" not in caught.value.line()


def test_a_damaged_manifest_is_said_as_such(world: World, tmp_path: Path) -> None:
    class Broken(Watched):
        def manifest(self, snapshot: Any) -> Any:
            raise DamagedObject("shard 7 does not match its digest")

    with pytest.raises(DamagedObject, match="shard 7"):
        ask(Broken(world.repository), "select count(*) from files where size > 1", tmp_path)  # type: ignore[arg-type]


def test_json_values() -> None:
    values = [
        None,
        True,
        3,
        "x",
        b"\xff",
        1.5,
        float("inf"),
        Decimal("7"),
        Decimal("0.5"),
        datetime(2026, 1, 2),
        date(2026, 1, 2),
    ]
    assert [json_value(value) for value in [*values, [b"a"], {"k": Decimal(1)}]] == [
        None, True, 3, "x", "/w==", 1.5, None, 7, 0.5, "2026-01-02T00:00:00Z", "2026-01-02", ["YQ=="], {"k": 1},
    ]  # fmt: skip
