"""What every target of a restore does, whatever it is: a directory, or a bucket with objects for directories."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from moraine.engine.selection import Selection, select
from moraine.model.entry import Kind, split_path
from moraine.sources.posix_target import PosixTarget
from moraine.sources.s3_target import S3Target
from moraine.sources.target import FOUND, Code, Extra, Rows, Target, TargetReader, TargetWriter, Verdict
from servers import S3Server

NOW = 1_700_000_000_123_456_789
SECONDS, NS = divmod(NOW, 10**9)
MIB = 1 << 20


@dataclass
class Row:
    path: bytes
    kind: int = Kind.FILE
    size: int = 0
    mode: int = 0o640
    verdict: int = Verdict.CREATE
    target: bytes | None = None
    extents: bytes | None = None


def rows(*found: Row) -> Rows:
    split = [split_path(row.path) for row in found]
    return Rows(
        dir=[directory for directory, _ in split],
        name=[name for _, name in split],
        kind=[int(row.kind) for row in found],
        verdict=[int(row.verdict) for row in found],
        size=[row.size for row in found],
        mode=[row.mode for row in found],
        uid=[os.geteuid()] * len(found),
        gid=[os.getegid()] * len(found),
        owner=[None] * len(found),
        group=[None] * len(found),
        time=[NOW] * len(found),
        rdev=[0] * len(found),
        inode=[1] * len(found),
        target=[row.target for row in found],
        xattrs=[None] * len(found),
        extents=[row.extents for row in found],
        digest=[b"d" * 32 if row.kind == Kind.FILE else None for row in found],
    )


def folder(path: bytes, **more: Any) -> Row:
    return Row(path, Kind.DIRECTORY, mode=0o750, **more)


@pytest.fixture(params=["directory", "moto", "ministack"])
def target(request: pytest.FixtureRequest, tmp_path: Path, s3_bucket: Callable[[str], tuple[S3Server, str]]) -> Target:
    if request.param == "directory":
        return PosixTarget(tmp_path / "out")
    server, bucket = s3_bucket(request.param)
    client = server.client
    return S3Target(bucket, "some/where", client=lambda: client, objects=False, markers=True)


def fill(target: Target, *files: tuple[bytes, bytes], folders: Sequence[bytes] = ()) -> TargetWriter:
    """Write files, and the directories above."""
    top = [folder(b""), *map(folder, folders)]
    with target.writer() as writer:
        writer.directories(rows(*top))
        for path, body in files:
            writer.files(rows(Row(path, size=len(body))), memoryview(body), [0], [len(body)])
        writer.finish(rows(*reversed(top)))
    return writer


def look(reader: TargetReader, directory: bytes, *found: tuple[bytes, Kind]) -> list[dict[str, Any]]:
    count = len(found)
    table = pa.table(
        {
            "name": pa.array([name for name, _ in found], pa.binary()),
            "kind": pa.array([kind for _, kind in found], pa.uint8()),
            "inode": pa.array([1] * count, pa.uint64()),
            "xattrs": pa.array([None] * count, pa.binary()),
            "digest": pa.array([b"d" * 32] * count, pa.binary(32)),
        }
    )
    batch = reader.look(directory, table)
    assert batch.schema == FOUND
    return list(batch.to_pylist())


def content(target: Target, path: bytes) -> bytes | None:
    with target.reader() as reader:
        opened = reader.open(*split_path(path))
        if opened is None:
            return None
        body = bytearray(opened.size + 10)
        half = opened.size // 2
        view = memoryview(body)
        count = opened.read_at(half, view[half:])
        assert count == opened.size - half
        assert opened.read_at(0, view[:half]) == half
        opened.close()
        return bytes(body[: opened.size])


def test_nothing_is_there_at_first(target: Target) -> None:
    facts = target.probe()
    assert facts.empty
    assert facts.directories


def test_files_and_directories(target: Target) -> None:
    writer = fill(target, (b"a", b"alpha"), (b"d/e/b", b""), ("d/é\udcff".encode("utf-8", "surrogateescape"), b"x"),
                  folders=[b"d", b"d/e"])  # fmt: skip
    assert (writer.notes.counts, writer.counts["files"], writer.counts["bytes"]) == ({}, 3, 6)
    facts = target.probe()
    assert (facts.exists, facts.empty) == (True, False)
    with target.reader() as reader:
        file, directory, missing = look(reader, b"", (b"a", Kind.FILE), (b"d", Kind.DIRECTORY), (b"no", Kind.FILE))
        assert (file["kind"], file["size"], file["mode"]) == (Kind.FILE, 5, 0o640)
        assert (file["mtime"], file["mtime_ns"], file["uid"]) == (SECONDS, NS, os.geteuid())
        assert file["content"] in (None, True)
        assert (directory["kind"], directory["mode"], directory["mtime_ns"]) == (Kind.DIRECTORY, 0o750, NS)
        assert missing["kind"] == 0
        assert [found["size"] for found in look(reader, b"d/e", (b"b", Kind.FILE))] == [0]
    assert content(target, b"a") == b"alpha"
    assert content(target, b"d/\xc3\xa9\xff") == b"x"
    assert content(target, b"no") is None


@pytest.mark.parametrize("size", [0, 3 * MIB, 8 * MIB, 17 * MIB + 5])
def test_pieces_in_any_order(target: Target, size: int) -> None:
    body = os.urandom(size)
    step = max(1, size // 5)
    starts = list(range(0, size, step)) or [0]
    with target.writer() as writer:
        writer.directories(rows(folder(b"")))
        assert not writer.begun(7)
        writer.begin(7, rows(Row(b"f", size=size)), len(starts))
        assert writer.begun(7)
        for start in reversed(starts):
            writer.write(7, start, memoryview(body[start : start + step]))
    assert writer.counts["files"] == 1
    assert content(target, b"f") == body


def test_holes_read_as_zeros(target: Target) -> None:
    extents = b"".join(n.to_bytes(8, "little") for n in (5, 3, 12 * MIB, 4))
    with target.writer() as writer:
        writer.directories(rows(folder(b"")))
        row = rows(Row(b"sparse", size=20 * MIB, extents=extents), Row(b"hole", size=9 * MIB, extents=b""))
        writer.files(row, memoryview(b"abcWXYZ"), [0, 7], [7, 0])
    found = content(target, b"sparse")
    assert found is not None
    assert (len(found), found[5:8], found[12 * MIB : 12 * MIB + 4]) == (20 * MIB, b"abc", b"WXYZ")
    assert found.count(0) == len(found) - 7
    assert content(target, b"hole") == bytes(9 * MIB)


def test_what_is_abandoned_leaves_no_trace(target: Target) -> None:
    with target.writer() as writer:
        writer.directories(rows(folder(b"")))
        for number, name in enumerate((b"left", b"lost")):
            writer.begin(number, rows(Row(name, size=20 * MIB)), 3)
            writer.write(number, 0, memoryview(bytes(9 * MIB)))
        writer.abandon(1)
        writer.write(1, 9 * MIB, memoryview(b"late"))
    assert (content(target, b"left"), content(target, b"lost")) == (None, None)
    assert writer.counts["files"] == 0


def test_symlinks_links_and_what_cannot_be(target: Target) -> None:
    fill(target, (b"a", b"alpha"))
    with target.writer() as writer:
        writer.nodes(rows(Row(b"link", Kind.SYMLINK, mode=0o777, target=b"a/\xff")))
        writer.links(rows(Row(b"b", size=5)), [(b"", b"a")])
    assert (writer.counts["others"], writer.counts["links"]) == (1, 1)
    assert set(writer.notes.counts) <= {Code.COPIED}
    with target.reader() as reader:
        (link,) = look(reader, b"", (b"link", Kind.SYMLINK))
    assert (link["kind"], link["target"]) == (Kind.SYMLINK, b"a/\xff")
    assert content(target, b"b") == b"alpha"


def test_nothing_new_takes_the_place_of_what_appeared(target: Target) -> None:
    fill(target, (b"a", b"theirs"))
    with target.writer() as writer:
        writer.files(rows(Row(b"a", size=4)), memoryview(b"ours"), [0], [4])
    assert writer.notes.counts == {Code.CONFLICT: 1}
    with target.writer() as writer:
        writer.files(rows(Row(b"a", size=4, verdict=Verdict.REPLACE)), memoryview(b"ours"), [0], [4])
    assert (writer.notes.counts, content(target, b"a")) == ({}, b"ours")


def test_attributes_alone(target: Target) -> None:
    fill(target, (b"a", b"alpha"))
    with target.writer() as writer:
        writer.refresh(rows(Row(b"a", size=5, mode=0o600, verdict=Verdict.REFRESH)))
    assert writer.counts["refreshed"] == 1
    with target.reader() as reader:
        assert [found["mode"] for found in look(reader, b"", (b"a", Kind.FILE))] == [0o600]
    assert content(target, b"a") == b"alpha"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (select(), {b"extra", b"d/more", b"d/sub"}),
        (select(exclude=["d/more"]), {b"extra", b"d/sub"}),
        (select(include=["d"]), {b"d/more", b"d/sub"}),
    ],
)
def test_extras(target: Target, asked: Selection, expected: set[bytes]) -> None:
    names = (b"a", b"extra", b"d/b", b"d/more", b"d/sub/1", b"d/sub/2")
    fill(target, *((name, b"12") for name in names), folders=[b"d", b"d/sub"])
    with target.reader() as reader:
        beside = reader.beside(asked)
        beside.known(b"", [b"a", b"d"], [Kind.FILE, Kind.DIRECTORY])
        beside.known(b"d", [b"b"], [Kind.FILE])
        found: list[Extra] = beside.extras([b"", b"d"])
    assert {extra.dir + b"/" + extra.name if extra.dir else extra.name for extra in found} == expected
    assert sum(extra.bytes for extra in found) == 2 * len(expected) + 2 * (b"d/sub" in expected)
    with target.writer() as writer:
        for extra in found:
            writer.remove(extra)
    gone = {name for name in names if content(target, name) is None}
    assert gone == {name for name in names if any(name == e or name.startswith(e + b"/") for e in expected)}
