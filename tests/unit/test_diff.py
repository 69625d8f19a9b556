"""Change detection against the parent's rows."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from moraine.engine.diff import Rules, compare, renamed
from moraine.engine.lots import Lots
from moraine.engine.plan import Planner
from moraine.model.entry import Kind, Op, State
from rows import inventory, manifest, paths

DEFAULT = Rules()
BEFORE: dict[str, Any] = {"digest": b"d" * 32, "xattrs": b"x", "session": "OLD"}


def differences(
    after: dict[bytes, dict[str, Any]], before: dict[bytes, dict[str, Any]], rules: Rules = DEFAULT
) -> dict[bytes, tuple[Op, str, bool, int]]:
    changes = compare(inventory(after), manifest(before), rules, "NEW", Lots(1))
    assert paths(changes) == paths(inventory(paths(changes)))  # in order
    columns = (changes[name].to_pylist() for name in ("op", "reason", "read", "shard"))
    return {p: (Op(op), *rest) for p, op, *rest in zip(paths(changes), *columns, strict=True)}


def test_nothing_changed() -> None:
    assert differences({b"a": {}, b"b": {}}, {b"a": BEFORE, b"b": BEFORE}) == {}


def test_added_and_deleted() -> None:
    assert differences({b"a": {}, b"new": {}}, {b"a": BEFORE, b"old": BEFORE}) == {
        b"new": (Op.ADDED, "new", True, 0),
        b"old": (Op.DELETED, "deleted", False, -1),
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"size": 11}, "size"),
        ({"mtime": 5}, "mtime"),
        ({"mtime_ns": 9}, "mtime"),
        ({"ctime_ns": 3}, "ctime"),
        ({"inode": 8}, "inode"),
    ],
)
def test_a_file_is_read_again_when_any_part_of_its_stamp_moves(change: dict[str, Any], reason: str) -> None:
    assert differences({b"a": change}, {b"a": BEFORE}) == {b"a": (Op.MODIFIED, reason, True, 0)}


def test_an_edit_of_the_same_size_with_its_mtime_put_back_is_seen_by_ctime() -> None:
    assert differences({b"a": {"ctime": 1_700_000_001}}, {b"a": BEFORE})[b"a"][0] == Op.MODIFIED
    assert differences({b"a": {"ctime": 1_700_000_001}}, {b"a": BEFORE}, Rules(ctime=False)) == {}


def test_unstable_inodes_do_not_count_where_the_policy_says_so() -> None:
    assert differences({b"a": {"inode": 99}}, {b"a": BEFORE}, Rules(inode=False)) == {}


@pytest.mark.parametrize("state", [State.RACY, State.DENIED, State.VANISHED])
def test_a_row_that_was_not_captured_well_is_never_taken_as_unchanged(state: State) -> None:
    assert differences({b"a": {}}, {b"a": {**BEFORE, "state": state}})[b"a"][2] is True


def test_type_change() -> None:
    after = {b"a": {"kind": Kind.SYMLINK, "size": 0}}
    assert differences(after, {b"a": BEFORE}) == {b"a": (Op.MODIFIED, "type", False, 0)}


def test_directory_times_are_metadata() -> None:
    known = {b"d": {**BEFORE, "kind": Kind.DIRECTORY}}
    assert differences({b"d": {"kind": Kind.DIRECTORY, "mtime": 1}}, known) == {b"d": (Op.METADATA, "times", False, 0)}


def test_mode_without_ctime_is_metadata_and_keeps_content() -> None:
    changes = compare(inventory({b"a": {"mode": 0o600}}), manifest({b"a": BEFORE}), Rules(), "NEW", Lots(1))
    assert changes["op"].to_pylist() == [Op.METADATA]
    assert changes["digest"].to_pylist() == [b"d" * 32]
    assert changes["session"].to_pylist() == ["NEW"]


def test_a_link_groups_device_number_is_carried_without_a_look() -> None:
    known = {b"a": {**BEFORE, "nlink": 2}, b"b": {**BEFORE}}
    found = {b"a": {"nlink": 2, "device": 9}, b"b": {"device": 9}}
    assert differences(found, known) == {b"a": (Op.METADATA, "links", False, -1)}


def test_denied_entries() -> None:
    assert differences({b"a": {"state": State.DENIED}}, {}) == {b"a": (Op.ADDED, "unreadable", False, -1)}
    assert differences({b"a": {"state": State.DENIED}}, {b"a": BEFORE}) == {
        b"a": (Op.METADATA, "unreadable", False, -1)
    }
    assert differences({b"a": {"state": State.DENIED}}, {b"a": {**BEFORE, "state": State.DENIED}}) == {}


def test_sample_is_a_share_of_the_unchanged_files_only() -> None:
    files = {b"f%04d" % n: {} for n in range(2000)}
    known = dict.fromkeys(files, BEFORE)
    found = differences(files, known, Rules(rehash=0.1))
    assert 120 < len(found) < 280
    assert set(found.values()) == {(Op.REHASH, "sample", True, 0)}


def test_renames_are_labelled_by_inode_size_and_mtime() -> None:
    after = {b"new": {"inode": 5}, b"other": {"inode": 6}}
    changes = compare(inventory(after), manifest({b"old": {**BEFORE, "inode": 5}}), Rules(), "NEW", Lots(1))
    gone = changes.filter(pa.array([op == Op.DELETED for op in changes["op"].to_pylist()]))
    marked = renamed(changes, gone)
    labels = dict(zip(paths(marked), marked["reason"].to_pylist(), strict=True))
    assert labels == {b"new": "renamed", b"other": "new", b"old": "deleted"}
    assert marked["read"].to_pylist() == changes["read"].to_pylist()


def test_planner_balances_by_bytes_and_count_and_keeps_order() -> None:
    entries = {b"f%04d" % n: {"size": 1 << 20, "inode": n} for n in range(100)}
    changes = compare(inventory(entries), None, Rules(), "S", Lots(1))
    planner = Planner(shard_bytes=25 << 20, shard_files=1000, most=8, total_bytes=100 << 20, total_files=100)
    pieces = planner.assign(changes.slice(0, 50)) + planner.assign(changes.slice(50))
    assert [p for _, piece in pieces for p in paths(piece)] == paths(changes)
    shards = planner.shards()
    assert [shard.number for shard in shards] == [0, 1, 2, 3]
    assert all(20 <= shard.files <= 30 for shard in shards)
    assert all(set(piece["shard"].to_pylist()) == {number} for number, piece in pieces)


def test_planner_never_makes_more_shards_than_allowed() -> None:
    entries = {b"f%04d" % n: {"size": 1 << 30, "inode": n} for n in range(50)}
    changes = compare(inventory(entries), None, Rules(), "S", Lots(1))
    planner = Planner(shard_bytes=1, shard_files=1, most=3, total_bytes=50 << 30, total_files=50)
    assert {number for number, _ in planner.assign(changes)} == {0, 1, 2}


def test_a_shard_is_named_by_where_it_reaches() -> None:
    deep = b"/".join(b"partition=%d" % n for n in range(9))
    entries = {b"readme": {"size": 5}, deep + b"/part": {"size": 2 << 10}, b"raw/a": {"size": 1}, b"raw/b": {"size": 1}}
    changes = compare(inventory(entries), None, Rules(), "S", Lots(1))
    planner = Planner(shard_bytes=1, shard_files=1, most=9, total_bytes=2 << 10, total_files=4)
    planner.assign(changes)
    assert [shard.label for shard in planner.shards()] == [
        "0: top, 1 entry, 5 B",
        "1: partition=0/partitio…tition=7/partition=8, 1 entry, 2.0 KiB",
        "2: raw, 2 entries, 2 B",
    ]
    one = Planner(shard_bytes=1 << 30, shard_files=9, most=9, total_bytes=2 << 10, total_files=4)
    one.assign(changes.slice(0, 1))
    one.assign(changes.slice(1))
    assert [shard.label for shard in one.shards()] == ["0: top to raw, 4 entries, 2.0 KiB"]
    days = {b"raw/day=%d/%d" % (day, n): {"size": 1} for day in (1, 2) for n in (1, 2)}
    daily = Planner(shard_bytes=1 << 30, shard_files=9, most=9, total_bytes=4, total_files=4)
    daily.assign(compare(inventory(days), None, Rules(), "S", Lots(1)))
    assert [shard.label for shard in daily.shards()] == ["0: raw/day=1 to day=2, 4 entries, 4 B"]
