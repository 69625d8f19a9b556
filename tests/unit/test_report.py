"""Read models over real snapshots: listing, finding, comparing, measuring, SQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from moraine.errors import ConfigError
from moraine.model.entry import display_path
from moraine.report.columns import display_column
from moraine.report.compare import compare_manifests
from moraine.report.entries import iter_entries, path_fields, time_text
from moraine.report.find import find_versions, matching
from moraine.report.listing import list_entries
from moraine.report.snapshots import newest_of_each, remarks, snapshot_dict, sort_snapshots
from moraine.report.stats import repository_stats
from moraine.stores.memory import MemoryStore
from night import Clock, make_repository
from report_world import World


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


def test_display_column_is_display_path() -> None:
    names = [b"plain", b"", "caf\u00e9".encode(), b"\xff", b"a\nb", "\u202e".encode(), b"back\\slash", None]
    shown = display_column(pa.array(names, pa.binary())).to_pylist()
    assert shown == [None if name is None else display_path(name) for name in names]
    encoded = pa.array([b"x", b"\xff", b"x"], pa.binary()).dictionary_encode()
    assert display_column(encoded).to_pylist() == ["x", "\\xff", "x"]
