"""Read models over real snapshots: listing, finding, comparing, measuring, SQL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from night import Clock, make_policy, make_repository

from moraine.errors import ConfigError, DamagedObject
from moraine.model.entry import display_path
from moraine.report.compare import compare_manifests
from moraine.report.entries import iter_entries, path_fields, time_text
from moraine.report.files_table import FILES, display_column
from moraine.report.find import find_versions, matching
from moraine.report.listing import list_entries
from moraine.report.query import json_value, query
from moraine.report.snapshots import newest_of_each, remarks, snapshot_dict, sort_snapshots
from moraine.report.stats import repository_stats
from moraine.repository.repository import Repository
from moraine.steps.backup import Holder, backup
from moraine.steps.source import open_source
from moraine.stores.memory import MemoryStore


class World:
    """A repository with two nights of one policy and one of another."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.store = MemoryStore()
        self.repository = make_repository(self.store, self.clock)
        self.root = folder / "lake"
        (self.root / "docs" / "deep").mkdir(parents=True)
        (self.root / "empty").mkdir()
        for path, content in {"a.csv": b"1,2", "docs/b.csv": b"3" * 50, "docs/deep/c.md": b"# c", "gone": b"x"}.items():
            (self.root / path).write_bytes(content)
        (self.root / os.fsdecode(b"odd\xff\n")).write_bytes(b"odd")
        os.symlink("a.csv", self.root / "docs" / "link")
        self.first = self.night("lake")
        (self.root / "a.csv").write_bytes(b"1,2,3,4")
        (self.root / "gone").unlink()
        (self.root / "docs" / "new.txt").write_bytes(b"new")
        (self.root / "docs" / "b.csv").chmod(0o600)
        self.second = self.night("lake")
        self.other = self.night("pond")

    def night(self, name: str) -> str:
        self.clock.advance(days=1)
        policy = make_policy(self.root, name)
        return backup(
            self.repository,
            policy,
            open_source(policy),
            clock=self.clock,
            entropy=os.urandom,
            holder=Holder("h", "m", lambda _: True),
            work=MemoryStore(),
        ).snapshot

    def manifest(self, snapshot: str) -> Any:
        return self.repository.manifest(self.repository.snapshot(snapshot))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def paths(entries: Iterator[Any]) -> list[bytes]:
    return [entry.path for entry in entries]


def test_the_whole_snapshot_in_manifest_order(world: World) -> None:
    assert paths(list_entries(world.manifest(world.second), recursive=True)) == [
        b"a.csv", b"docs", b"empty", b"odd\xff\n", b"docs/b.csv", b"docs/deep", b"docs/link", b"docs/new.txt",
        b"docs/deep/c.md",
    ]  # fmt: skip


def test_children_of_a_directory_and_a_single_file(world: World) -> None:
    manifest = world.manifest(world.first)
    assert paths(list_entries(manifest)) == [b"a.csv", b"docs", b"empty", b"gone", b"odd\xff\n"]
    assert paths(list_entries(manifest, b"docs")) == [b"docs/b.csv", b"docs/deep", b"docs/link"]
    assert paths(list_entries(manifest, b"docs", recursive=True))[-1] == b"docs/deep/c.md"
    assert paths(list_entries(manifest, b"empty")) == []
    assert paths(list_entries(manifest, b"docs/link")) == [b"docs/link"]


def test_a_path_that_is_not_there(world: World) -> None:
    with pytest.raises(ConfigError, match="holds no 'do'"):
        list(list_entries(world.manifest(world.first), b"do"))


def test_entries_in_json(world: World) -> None:
    found = {entry.path: entry.to_dict() for entry in list_entries(world.manifest(world.first), recursive=True)}
    assert found[b"docs/link"]["kind"] == "symlink"
    assert found[b"docs/link"]["target"] == "a.csv"
    assert found[b"odd\xff\n"]["path"] == "odd\\xff\\n"
    assert found[b"odd\xff\n"]["path_b64"] == "b2Rk/wo="
    assert "path_b64" not in found[b"a.csv"]
    assert len(found[b"a.csv"]["digest"]) == 64
    assert found[b"a.csv"]["mtime"].endswith("Z")


def test_paths_and_times_in_json() -> None:
    assert path_fields("path", b"a\\x41") == {"path": "a\\x41"}
    assert set(path_fields("path", "a\u202eb".encode())) == {"path", "path_b64"}  # turns writing direction round
    assert time_text(1, 5) == "1970-01-01T00:00:01.000000005Z"
    assert time_text(1 << 60, 0) == f"@{1 << 60}.000000000"


def test_find_groups_versions(world: World) -> None:
    newest_first = sort_snapshots(world.repository.state.live())[::-1]
    found = find_versions(world.repository, newest_first, b"*.csv")
    assert [(version.entry.path, version.entry.size, len(version.snapshots)) for version in found] == [
        (b"a.csv", 7, 2),
        (b"a.csv", 3, 1),
        (b"docs/b.csv", 50, 3),
    ]
    assert found[0].snapshots == [world.other, world.second]


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        (b"*.csv", {b"a.csv", b"docs/b.csv"}),
        (b"/*.csv", {b"a.csv"}),
        (b"docs/*", {b"docs/b.csv", b"docs/deep", b"docs/link"}),
        (b"deep/*.md", {b"docs/deep/c.md"}),
        (b"docs/**", {b"docs/b.csv", b"docs/deep", b"docs/link", b"docs/deep/c.md"}),
        (b"d*/", {b"docs", b"docs/deep"}),
        (b"odd??", {b"odd\xff\n"}),
        (b"[!a-n]*", {b"odd\xff\n"}),
        (b"[ag]*", {b"a.csv", b"gone"}),
        (b"a\\.csv", {b"a.csv"}),
        (b"nothing", set()),
    ],
)
def test_globs(world: World, glob: bytes, expected: set[bytes]) -> None:
    tables = world.manifest(world.first).tables()
    assert set(paths(iter_entries(matching(tables, glob)))) == expected


def test_case_can_be_ignored(world: World) -> None:
    tables = list(world.manifest(world.first).tables())
    assert not list(iter_entries(matching(tables, b"A.CSV")))
    assert paths(iter_entries(matching(tables, b"A.CSV", ignore_case=True))) == [b"a.csv"]


@pytest.mark.parametrize("glob", [b"", b"/", b"[z-a]"])
def test_bad_globs(world: World, glob: bytes) -> None:
    with pytest.raises(ConfigError):
        list(matching(world.manifest(world.first).tables(), glob))


def test_differences_in_order(world: World) -> None:
    found = list(compare_manifests(world.manifest(world.first), world.manifest(world.second)))
    content = [(item.change, item.entry.path, item.bytes) for item in found if item.entry.kind == 1]
    assert content == [
        ("modified", b"a.csv", 4),
        ("removed", b"gone", -1),
        ("metadata", b"docs/b.csv", 0),
        ("added", b"docs/new.txt", 3),
    ]
    back = list(compare_manifests(world.manifest(world.second), world.manifest(world.first)))
    assert sum(item.bytes for item in back) == -sum(item.bytes for item in found)
    assert found[-1].to_dict()["path"] == "docs/new.txt"
    assert found[-1].to_dict()["old"] is None


def test_a_snapshot_does_not_differ_from_itself(world: World) -> None:
    assert not list(compare_manifests(world.manifest(world.first), world.manifest(world.first)))


def test_differences_below_a_path(world: World) -> None:
    found = compare_manifests(world.manifest(world.first), world.manifest(world.second), b"docs")
    assert all(item.entry.path.startswith(b"docs") for item in found)


def test_snapshots_as_rows(world: World) -> None:
    records = sort_snapshots(world.repository.state.live())
    assert [record.id for record in records] == [world.first, world.second, world.other]
    assert {"id", "policy", "window", "captured_at", "files", "bytes", "added"} <= set(snapshot_dict(records[0]))
    assert [record.id for record in newest_of_each(records, 1)] == [world.second, world.other]
    assert remarks(records[0]) == []


def test_stats_add_up(world: World) -> None:
    stats = repository_stats(world.repository)
    assert (stats.snapshots, stats.files) == (3, 15)
    assert stats.logical_bytes == sum(record.bytes for record in world.repository.state.live())
    assert stats.unique_bytes == len(b"1,2" + b"3" * 50 + b"# c" + b"x" + b"odd" + b"1,2,3,4" + b"new")
    assert stats.pack_bytes + stats.other_bytes == sum(info.size for info in world.store.list(""))
    assert stats.dedup_ratio == round(stats.logical_bytes / stats.unique_bytes, 3)
    assert [policy.policy for policy in stats.policies] == ["lake", "pond"]


def test_stats_of_nothing() -> None:
    clock = Clock()
    stats = repository_stats(make_repository(MemoryStore(), clock))
    assert (stats.snapshots, stats.dedup_ratio, stats.policies) == (0, None, [])


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


class Watched:
    """Counts which manifests are read, and with which columns."""

    def __init__(self, repository: Repository) -> None:
        self.inner, self.read = repository, []  # type: ignore[var-annotated]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def manifest(self, snapshot: Any) -> Any:
        return WatchedManifest(self, snapshot)


class WatchedManifest:
    def __init__(self, watched: Watched, snapshot: Any) -> None:
        self.watched, self.snapshot = watched, snapshot

    def tables(self, columns: list[str]) -> Iterator[pa.Table]:
        self.watched.read.append((self.snapshot.id, columns))
        return self.watched.inner.manifest(self.snapshot).tables(columns)  # type: ignore[no-any-return]


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


def test_display_column_is_display_path() -> None:
    names = [b"plain", b"", "caf\u00e9".encode(), b"\xff", b"a\nb", "\u202e".encode(), b"back\\slash", None]
    shown = display_column(pa.array(names, pa.binary())).to_pylist()
    assert shown == [None if name is None else display_path(name) for name in names]
    encoded = pa.array([b"x", b"\xff", b"x"], pa.binary()).dictionary_encode()
    assert display_column(encoded).to_pylist() == ["x", "\\xff", "x"]
