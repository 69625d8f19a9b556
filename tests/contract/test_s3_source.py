"""Nights over a bucket, on real servers: what is read, what is kept, and that a restore holds every key."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from moraine.errors import AccessDenied, ConfigError, SourceDenied, SourceMissing, SourceVanished, StoreUnavailable
from moraine.model.entry import Kind, State, join_path
from moraine.model.policy import Policy
from moraine.model.policy_file import validate_policy
from moraine.model.xattrs import decode_xattrs
from moraine.repository.repository import Repository
from moraine.sources import s3_ahead, s3_client, s3_listing, s3_reader
from moraine.sources.s3 import S3Source
from moraine.sources.s3_client import Page, S3Bucket
from moraine.sources.s3_names import key_of
from moraine.steps.backup import Holder, backup
from moraine.steps.commit import Committed
from moraine.steps.source import open_source
from moraine.stores.memory import MemoryStore
from night import make_repository
from restored import restore
from servers import CLASSLESS, PATHS, SERVERS, S3Server, told

ODD = [
    "a", "a/b", "a/b/c", "a/", "a//b", "a-b/x", "/lead", "//two", "trail/", "../up", "dots/../x", "dots/./y", "%p",
    "%empty/x", "%=a", "tab\tand\x01", "nul\0x", "sp ace+plus&amp;<x>", "q?x=1#frag", "tab%2Fenc", "é" * 100 + "/z",
    "x" * 1024, "x" * 1023 + "/", "x/" * 511 + "yy",
]  # fmt: skip
# What a server keeps that takes keys for paths, and what it makes of two of them.
PLAIN = ["%p", "%empty/x", "%=a", "sp ace+plus&amp;<x>", "q?x=1#frag", "tab%2Fenc", "a/b/c", "x/" * 500 + "y"]
MADE = {"a//b": "a/b", "dots/../x": "x"}


@dataclass
class Bucket:
    """A bucket and a repository that gets its nights."""

    server: S3Server
    name: str
    prefix: str = ""
    list_shards: int = 1
    reads: list[str] = field(default_factory=list)
    parts: dict[str, Any] = field(default_factory=dict)
    before_read: Callable[[str], None] = lambda key: None

    def __post_init__(self) -> None:
        self.repository: Repository = make_repository(MemoryStore(), self.clock)

    @staticmethod
    def clock() -> datetime:
        return datetime.now(UTC) + timedelta(hours=1)  # so that no object counts as racy

    def put(self, key: str, body: bytes = b"", **more: Any) -> None:
        self.server.client.put_object(Bucket=self.name, Key=key, Body=body or b"body of " + key.encode(), **more)

    def delete(self, key: str) -> None:
        self.server.client.delete_object(Bucket=self.name, Key=key)

    @property
    def policy(self) -> Policy:
        source = {"kind": "s3", "bucket": self.name, "prefix": self.prefix, "endpoint_url": self.server.endpoint_url}
        return validate_policy(
            {
                "policy": "lake",
                "source": source | self.parts,
                "repository": {"url": "memory://"},
                "rehash": 0.0,
                "shards": {"list": self.list_shards},
            }
        )

    def source(self) -> S3Source:
        source = open_source(self.policy, session=self.server.session())
        assert isinstance(source, S3Source)
        return source

    def night(self) -> Committed:
        self.reads.clear()
        return backup(
            self.repository,
            self.policy,
            self.source(),
            clock=self.clock,
            entropy=os.urandom,
            holder=Holder("here", "1", lambda mark: False),
            work=MemoryStore(),
            ignore_gate=True,
        )

    def rows(self, night: Committed) -> dict[bytes, dict[str, Any]]:
        rows = self.repository.manifest(self.repository.snapshot(night.snapshot)).table().to_pylist()
        return {join_path(row["dir"], row["name"]): row for row in rows}


@pytest.fixture(params=SERVERS)
def bucket(
    request: pytest.FixtureRequest, s3_bucket: Callable[[str], tuple[S3Server, str]], monkeypatch: pytest.MonkeyPatch
) -> Bucket:
    found = Bucket(*s3_bucket(request.param))
    read = S3Bucket.read

    first = threading.Lock()  # what the first read sets off is done before another one begins

    def watched(self: S3Bucket, key: str, *args: Any, **more: Any) -> Any:
        with first:
            found.reads.append(key)
            found.before_read(key)
        return read(self, key, *args, **more)

    monkeypatch.setattr(S3Bucket, "read", watched)
    return found


def small_parts(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    for module in (s3_ahead, s3_reader):
        monkeypatch.setattr(module, "PART", size)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a restored tree by the key it stands for."""
    root = os.fsencode(folder)
    files = [os.path.join(at, name) for at, _, names in os.walk(root) for name in names]
    return {key_of(os.path.relpath(path, root)).decode(): Path(os.fsdecode(path)).read_bytes() for path in files}


def test_nights_read_what_has_changed_and_no_more(bucket: Bucket, tmp_path: Path) -> None:
    for key in ("keep", "a/change", "a/go", "a/same-bytes"):
        bucket.put(key)
    first = bucket.night()
    assert (first.files, first.exit_code, sorted(bucket.reads)) == (4, 0, ["a/change", "a/go", "a/same-bytes", "keep"])

    second = bucket.night()
    assert (second.changed, second.added, bucket.reads) == (0, 0, [])

    bucket.put("a/change", b"BODY OF a/change")  # the same size
    bucket.put("b/new")
    bucket.delete("a/go")
    third = bucket.night()
    assert sorted(bucket.reads) == ["a/change", "b/new"]
    restore(bucket.repository, third.snapshot, tmp_path / "out")
    assert tree(tmp_path / "out") == {
        "keep": b"body of keep",
        "a/change": b"BODY OF a/change",
        "a/same-bytes": b"body of a/same-bytes",
        "b/new": b"body of b/new",
    }


@pytest.mark.parametrize(("page", "shards"), [(3, 1), (3, 4), (1000, 1)])
def test_odd_keys_are_kept_and_restore_into_a_directory(
    bucket: Bucket, page: int, shards: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.list_shards = shards
    keys = ODD if shards == 1 else ODD[:-1]  # the last one alone is 500 levels, for every shard
    keys = ODD if shards == 1 else ODD[:-1]  # the last one alone is 500 levels for every shard
    if bucket.server.name in PATHS:
        keys = PLAIN if shards == 1 else PLAIN[:-1]
    whole = S3Bucket.page

    def paged(self: S3Bucket, prefix: str, **more: Any) -> Page:
        return whole(self, prefix, **{**more, "most": page})

    monkeypatch.setattr(S3Bucket, "page", paged)
    monkeypatch.setattr(s3_listing, "_SUBTREE_PAGES", 1)
    for key in keys:
        bucket.put(key)
    assert len(bucket.source().shards(shards)) == shards
    night = bucket.night()
    assert (night.files, night.exit_code) == (len(keys), 0)
    assert bucket.night().changed == 0
    restore(bucket.repository, night.snapshot, tmp_path / "out")
    assert os.listdir(tmp_path) == ["out"]
    assert tree(tmp_path / "out") == {key: b"body of " + key.encode() for key in keys}


def test_a_server_that_takes_keys_for_paths_changes_or_refuses_odd_ones(bucket: Bucket) -> None:
    if bucket.server.name not in PATHS:
        pytest.skip("takes a key for a key")
    kept = bucket.server.client
    for key, made in MADE.items():
        bucket.put(key)
        assert [item["Key"] for item in kept.list_objects_v2(Bucket=bucket.name)["Contents"]] == [made]
        bucket.delete(made)
    bucket.put("a")
    for key in ("a/b", "../up", "x" * 1024, "trail/"):
        with pytest.raises(ClientError):
            bucket.put(key)
    night = bucket.night()
    assert set(bucket.rows(night)) == {b"", b"a"}


@pytest.mark.parametrize("prefix", ["data", "data/", "data//", "/"])
def test_a_prefix_is_taken_as_written(bucket: Bucket, prefix: str) -> None:
    if bucket.server.name in PATHS:
        pytest.skip(f"{bucket.server.name} takes keys for paths")
    for key in ("data/x", "data//y", "data", "database/z", "/w"):
        bucket.put(key)
    bucket.prefix = prefix
    wanted = {"data": {b"x", b"%empty/y"}, "data/": {b"x", b"%empty/y"}, "data//": {b"y"}, "/": {b"w"}}[prefix]
    assert {path for path, row in bucket.rows(bucket.night()).items() if row["kind"] == Kind.FILE} == wanted


def test_metadata_becomes_extended_attributes(bucket: Bucket) -> None:
    bucket.put("x", ContentType="text/csv", CacheControl="no-cache", Metadata={"owner": "me", "b": "2"})
    row = bucket.rows(bucket.night())[b"x"]
    assert decode_xattrs(row["xattrs"]) == {
        b"user.s3.cache-control": b"no-cache",
        b"user.s3.content-type": b"text/csv",
        b"user.s3.metadata": b'{"b":"2","owner":"me"}',
    }


@pytest.mark.parametrize("name", ["GLACIER", "DEEP_ARCHIVE"])
def test_archived_objects_are_denied_and_counted(bucket: Bucket, name: str) -> None:
    if bucket.server.name in CLASSLESS:
        pytest.skip(f"{bucket.server.name} knows no storage class but STANDARD")
    for number in range(12):
        bucket.put(f"warm-{number}")
    bucket.put("deep/cold", StorageClass=name)
    bucket.put("cool", StorageClass="GLACIER_IR")
    night = bucket.night()
    assert (night.unreadable, night.exit_code) == (1, 3)
    assert "deep/cold" not in bucket.reads
    rows = bucket.rows(night)
    assert [path for path, row in rows.items() if row["state"] == State.DENIED] == [b"deep/cold"]
    assert rows[b"cool"]["state"] == State.OK
    source = bucket.source()
    assert source.remarks() == ()
    list(source.list(source.shards(4)[0]))
    assert source.remarks()[0].startswith("1 object in storage class GLACIER or DEEP_ARCHIVE cannot be read")
    bucket.parts = {"exclude": ["/deep/"]}
    assert bucket.night().exit_code == 0


def test_an_archived_object_that_was_restored_is_read() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    item = {"Key": "x", "Size": 1, "LastModified": at, "ETag": '"e"', "StorageClass": "GLACIER"}
    assert s3_client.listed(item).archived == "GLACIER"
    assert s3_client.listed(item | {"RestoreStatus": {"IsRestoreInProgress": True}}).archived == "GLACIER"
    ready = {"RestoreStatus": {"IsRestoreInProgress": False, "RestoreExpiryDate": at}}
    assert s3_client.listed(item | ready).archived is None


def test_an_object_replaced_after_the_listing_is_racy_and_one_deleted_has_vanished(bucket: Bucket) -> None:
    for key in ("gone", "new", "stays"):
        bucket.put(key)

    def meddle(key: str) -> None:
        bucket.before_read = lambda key: None
        bucket.put("new", b"another body")
        bucket.delete("gone")

    bucket.before_read = meddle
    night = bucket.night()
    rows = bucket.rows(night)
    assert {path: row["state"] for path, row in rows.items() if path} == {
        b"gone": State.VANISHED,
        b"new": State.RACY,
        b"stays": State.OK,
    }
    assert rows[b"new"]["size"] == len(b"another body")
    bucket.night()
    assert bucket.reads == ["new"]


def test_a_large_object_replaced_between_its_parts_is_read_again(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_parts(monkeypatch, 1 << 20)
    old, new = os.urandom(3 << 20), os.urandom((3 << 20) + 7)
    bucket.put("large", old)

    def meddle(key: str) -> None:
        if len(bucket.reads) == 3:
            bucket.put("large", new)

    bucket.before_read = meddle
    night = bucket.night()
    assert len(bucket.reads) == 3 + 4
    assert bucket.rows(night)[b"large"]["state"] == State.RACY
    restore(bucket.repository, night.snapshot, tmp_path / "out")
    assert (tmp_path / "out/large").read_bytes() == new


def test_a_reader_says_that_the_object_is_another_one(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    small_parts(monkeypatch, 4)
    bucket.put("x", b"123456")
    view = memoryview(bytearray(9))
    with bucket.source().reader() as reader:
        file = reader.open(b"", b"x")
        assert (file.readinto(view), bytes(view[:6]), file.finish()) == (6, b"123456", file.stamp)
        file = reader.open(b"", b"x")
        bucket.put("x", b"abcdef")
        assert (file.readinto(view), bytes(view[:4])) == (4, b"1234")
        assert file.finish() != file.stamp


def test_what_was_read_before_is_not_asked_for_again(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    small_parts(monkeypatch, 4)
    bucket.put("x", b"0123456789")
    view = memoryview(bytearray(9))
    for count, rest, reads in ((2, b"23456789", 3), (4, b"456789", 3), (9, b"9", 2), (10, b"", 1)):
        bucket.reads.clear()
        with bucket.source().reader() as reader:
            file = reader.open(b"", b"x")
            file.skip(count)
            assert (file.readinto(view), bytes(view[: len(rest)])) == (len(rest), rest)
            assert (file.finish(), len(bucket.reads)) == (file.stamp, reads)


def test_an_empty_object_is_a_file_without_bytes(bucket: Bucket, tmp_path: Path) -> None:
    bucket.server.client.put_object(Bucket=bucket.name, Key="empty", Body=b"", Metadata={"a": "b"})
    night = bucket.night()
    assert bucket.rows(night)[b"empty"]["xattrs"] is not None
    restore(bucket.repository, night.snapshot, tmp_path / "out")
    assert (tmp_path / "out/empty").read_bytes() == b""


def test_what_is_wrong_with_the_whole_bucket_stops_the_run(bucket: Bucket) -> None:
    assert bucket.source().probe().notes == (f"s3://{bucket.name}/ holds no object",)
    bucket.name += "-missing"
    with pytest.raises(SourceMissing, match="there is no bucket"):
        bucket.source().probe()


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, "AccessDenied", SourceDenied),
        (403, "InvalidObjectState", SourceDenied),
        (404, "NoSuchKey", SourceVanished),
        (404, "NoSuchBucket", SourceMissing),
        (400, "ExpiredToken", AccessDenied),
        (404, "XAdminUserNotFound", AccessDenied),
        (403, "SignatureDoesNotMatch", AccessDenied),
    ],
)
def test_errors_of_an_object_and_of_the_bucket_differ(status: int, code: str, error: type[Exception]) -> None:
    with told() as server:
        server.error(status, code)
        objects = S3Bucket(client_of(server.endpoint_url), "bucket")
        with pytest.raises(error):
            objects.read("key", 0, 10)


def test_a_body_that_breaks_off_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with told() as server:
        server.answers = [(206, b"whole")]
        objects = S3Bucket(client_of(server.endpoint_url), "bucket")
        broken = [ConnectionResetError("in the middle"), ConnectionResetError("again")]
        found = s3_client._found

        def breaking(answer: dict[str, Any], data: bytes, version: str | None) -> Any:
            if broken:
                raise broken.pop()
            return found(answer, data, version)

        monkeypatch.setattr(s3_client, "_found", breaking)
        assert objects.read("key", 0, 10).data == b"whole"
        broken += [ConnectionResetError("for good")] * 3
        with pytest.raises(StoreUnavailable, match="for good"):
            objects.read("key", 0, 10)


def test_no_credentials_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="cannot use S3"):
        s3_client.open_client(session=None, environ={"AWS_PROFILE": "no-such"}, region=None, endpoint_url=None)


def client_of(endpoint_url: str) -> Any:
    environ = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
    return s3_client.open_client(session=None, environ=environ, region="us-east-1", endpoint_url=endpoint_url)
