"""Restores into a bucket, on real servers: what comes back, what is left alone, interrupted, doubled, refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from buckets import expected_of_tree, objects, of_tree, uploads
from moraine.errors import AccessDenied, RestoreError, StoreUnavailable
from moraine.model.policy_file import validate_policy
from moraine.repository.repository import Repository
from moraine.sources import s3_target_looks, s3_writer
from moraine.sources.s3_target import S3Target
from moraine.sources.s3_writer import S3Writer
from moraine.steps.backup import Holder, backup
from moraine.steps.restore import Restored, execute_restore
from moraine.steps.restore_plan import RestorePlan, plan_restore
from moraine.steps.source import open_source
from moraine.steps.target import open_target
from moraine.stores.memory import MemoryStore
from nasty import make_nasty_tree
from night import Clock, make_repository
from servers import CLASSLESS, PATHS, SERVERS, S3Server

ODD = [
    "a", "a/b", "a/b/c", "a/", "a//b", "a-b/x", "/lead", "//two", "trail/", "../up", "dots/../x", "dots/./y", "%p",
    "%empty/x", "%=a", "tab\tand\x01", "nul\0x", "sp ace+plus&amp;<x>", "q?x=1#frag", "tab%2Fenc", "é" * 100 + "/z",
    "x" * 1024, "x" * 1023 + "/", "x/" * 511 + "yy", "\u201bFE",
]  # fmt: skip
# What a server can keep that takes keys for paths of files: no part of more than 255 bytes, no `a` beside `a/b`.
PLAIN = [
    "a/b/c", "a-b/x", "%p", "%empty/x", "%=a", "sp ace+plus&amp;<x>", "q?x=1#frag", "tab%2Fenc",
    "é" * 100 + "/z", "x/" * 500 + "yy", "\u201bFE",
]  # fmt: skip


@dataclass
class World:
    """Two buckets, a tree, and a repository of their snapshots."""

    server: S3Server
    source: str
    target: str
    tree: Path
    rules: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.repository: Repository = make_repository(MemoryStore(), self.clock)

    def put(self, key: str, body: bytes = b"", bucket: str = "", **more: Any) -> None:
        name = bucket or self.source
        self.server.client.put_object(Bucket=name, Key=key, Body=body or b"body of " + key.encode(), **more)

    def backup(self, source: dict[str, Any] | None = None) -> str:
        place = source or {"kind": "s3", "bucket": self.source, "endpoint_url": self.server.endpoint_url}
        policy = validate_policy({"policy": "lake", "source": place, "repository": {"url": "memory://"}})
        self.clock.advance(hours=1)
        return backup(
            self.repository,
            policy,
            open_source(policy, session=self.server.session()),
            clock=self.clock,
            entropy=os.urandom,
            holder=Holder("here", "1", lambda mark: False),
            work=MemoryStore(),
            ignore_gate=True,
        ).snapshot

    def backup_tree(self) -> str:
        return self.backup({"path": str(self.tree)})

    def place(self, prefix: str = "", **more: Any) -> S3Target:
        found = open_target(
            f"s3://{self.target}/{prefix}",
            self.repository,
            self.repository.snapshot("latest"),
            session=self.server.session(),
            endpoint_url=self.server.endpoint_url,
            **more,
        )
        assert isinstance(found, S3Target)
        return found

    def plan(self, prefix: str = "", *, place: dict[str, Any] | None = None, **rules: Any) -> RestorePlan:
        snapshot = self.repository.snapshot("latest")
        return plan_restore(self.repository, snapshot, target=self.place(prefix, **place or {}), **rules)

    def restore(
        self, prefix: str = "", *, place: dict[str, Any] | None = None, owners: str = "id", **rules: Any
    ) -> Restored:
        plan = self.plan(prefix, place=place, **rules)
        target = self.place(prefix, **place or {})
        return execute_restore(plan, self.repository, target, verify=True, owners=owners)

    def restored(self, prefix: str = "") -> dict[str, dict[str, Any]]:
        return objects(self.server.client, self.target, prefix)

    def original(self) -> dict[str, dict[str, Any]]:
        return objects(self.server.client, self.source)


@pytest.fixture(params=SERVERS)
def world(request: pytest.FixtureRequest, s3_bucket: Callable[[str], tuple[S3Server, str]], tmp_path: Path) -> World:
    server, source = s3_bucket(request.param)
    _, target = s3_bucket(request.param)
    (tmp_path / "tree").mkdir()
    return World(server, source, target, tmp_path / "tree")


class TestBuckets:
    @pytest.mark.parametrize("prefix", ["", "some/where/"])
    def test_odd_keys_come_back_byte_for_byte(self, world: World, prefix: str) -> None:
        for key in PLAIN if world.server.name in PATHS else ODD:
            if len((prefix + key).encode()) <= 1024:
                world.put(key)
        world.backup()
        done = world.restore(prefix)
        assert (done.exit_code, done.warning_counts) == (0, {})
        assert world.restored(prefix) == world.original()
        assert world.restored().keys() == {prefix + key for key in world.original()}
        again = world.plan(prefix)
        assert {name for name, count in again.counts.items() if count} == {"nothing"}

    def test_headers_metadata_and_empty_objects(self, world: World) -> None:
        world.put("plain")
        world.put(
            "full", b"x", ContentType="text/csv", CacheControl="no-cache", ContentEncoding="br",
            ContentDisposition="inline", ContentLanguage="de", Metadata={"owner": "me", "b-2": "two words"},
        )  # fmt: skip
        world.server.client.put_object(
            Bucket=world.source, Key="folder/", Body=b"", ContentType="application/x-directory"
        )
        world.backup()
        assert world.restore().exit_code == 0
        assert world.restored() == world.original()
        assert world.restored()["folder/"]["body"] == b""

    def test_other_metadata_in_the_target_is_put_right_without_the_content(self, world: World) -> None:
        world.put("x", Metadata={"a": "1"})
        world.backup()
        world.restore()
        world.put("x", bucket=world.target, Metadata={"a": "2"}, ContentType="text/plain")
        assert world.plan().counts["refresh"] == 1
        done = world.restore()
        assert (done.refreshed, done.files) == (1, 0)
        assert world.restored() == world.original()
        assert world.plan().counts["refresh"] == 0

    def test_parts_give_the_same_etag_as_common_tools(self, world: World) -> None:
        from boto3.s3.transfer import TransferConfig

        body = os.urandom((21 << 20) + 5)
        (world.tree / "large").write_bytes(body)
        config = TransferConfig(multipart_threshold=8 << 20, multipart_chunksize=8 << 20)
        extra = {"ContentType": "image/png", "Metadata": {"k": "v"}}
        world.server.client.upload_file(
            str(world.tree / "large"), world.source, "large", ExtraArgs=extra, Config=config
        )
        world.backup()
        assert world.restore().exit_code == 0
        assert world.restored() == world.original()
        assert uploads(world.server.client, world.target) == []
        assert world.plan().counts["nothing"] == 2

    def test_a_part_of_a_snapshot_and_storage_class(self, world: World) -> None:
        for key in ("docs/a", "docs/b/c", "other"):
            world.put(key)
        world.backup()
        world.restore(include=["docs"], exclude=["docs/b"], place={"storage_class": "STANDARD_IA"})
        assert world.restored().keys() == {"docs/a"}
        if world.server.name not in CLASSLESS:
            found = world.server.client.head_object(Bucket=world.target, Key="docs/a")
            assert found["StorageClass"] == "STANDARD_IA"


class TestTrees:
    @pytest.mark.slow
    @pytest.mark.parametrize("markers", [False, True])
    def test_the_nasty_tree(self, world: World, markers: bool) -> None:
        make_nasty_tree(world.tree, as_root=os.geteuid() == 0)
        (world.tree / "sparse/both-ends").unlink()  # a gigabyte of zeros
        if world.server.name == "moto":
            (world.tree / "names/new\nline").unlink()  # moto takes the object and does not list it
        if world.server.name in PATHS:
            shutil.rmtree(world.tree / "names")  # control characters are listed as others than they are
        world.backup_tree()
        wanted = expected_of_tree(world.tree, markers=markers)
        wanted = {key: value for key, value in wanted.items() if len(("t/" + key).encode()) <= 1024}
        done = world.restore("t", place={"markers": markers})
        found = of_tree(world.server.client, world.target, "t/")
        assert found.keys() == wanted.keys()
        assert {key for key in wanted if found[key] != wanted[key]} == set()
        assert done.exit_code == 3  # what a bucket cannot hold is counted
        assert {"device-skipped", "link-copied", "holes-filled"} <= done.warning_counts.keys()
        assert ("directory-left-out" in done.warning_counts) is not markers
        again = world.plan("t", place={"markers": markers})
        assert (again.write_files, again.counts["overwrite"], again.counts["refresh"]) == (0, 0, 0)

    def test_large_sparse_and_linked_files(self, world: World) -> None:
        (world.tree / "large").write_bytes(os.urandom((17 << 20) + 3))
        with open(world.tree / "sparse", "wb") as file:
            file.truncate(40 << 20)
            os.pwrite(file.fileno(), os.urandom(4096), 30 << 20)
            os.pwrite(file.fileno(), os.urandom(100_000), (8 << 20) - 5)
        with open(world.tree / "hole", "wb") as file:
            file.truncate(9 << 20)
        os.link(world.tree / "large", world.tree / "further")
        (world.tree / "repeats").write_bytes(os.urandom(1 << 20) * 20)
        os.utime(world.tree / "large", ns=(0, -1_500_000_001))
        world.backup_tree()
        done = world.restore()
        assert done.exit_code == 0
        assert (done.files, done.links) == (4, 1)
        assert of_tree(world.server.client, world.target) == expected_of_tree(world.tree)

    def test_owners_are_kept_out_if_asked(self, world: World) -> None:
        (world.tree / "x").write_text("x")
        world.backup_tree()
        world.restore(owners="keep")
        assert of_tree(world.server.client, world.target) == expected_of_tree(world.tree, owners=False)

    def test_names_too_long_for_a_key_are_named(self, world: World) -> None:
        deep = world.tree.joinpath(*["d" * 200] * 5)
        deep.mkdir(parents=True)
        (deep / ("f" * 100)).write_text("x")
        (world.tree / "fine").write_text("fine")
        world.backup_tree()
        done = world.restore()
        assert (done.exit_code, done.warning_counts["failed"]) == (3, 1)
        assert world.restored().keys() == {"fine"}

    @pytest.mark.parametrize(("rule", "expected"), [("always", b"new"), ("if-changed", b"new"), ("never", b"theirs")])
    def test_rules(self, world: World, rule: str, expected: bytes) -> None:
        (world.tree / "x").write_text("new")
        (world.tree / "y").write_text("new")
        world.put("x", b"theirs", bucket=world.target)
        world.backup_tree()
        done = world.restore(overwrite=rule) if rule != "never" else None
        if done is None:
            plan = world.plan(overwrite=rule)
            execute_restore(plan, world.repository, world.place())
        assert world.restored()["x"]["body"] == expected
        assert world.restored()["y"]["body"] == b"new"

    def test_the_newer_stays(self, world: World) -> None:
        (world.tree / "old").write_text("new")
        os.utime(world.tree / "old", (0, 1_000_000_000))
        world.put("old", b"theirs", bucket=world.target)
        world.backup_tree()
        assert world.plan(overwrite="if-newer").counts["keep"] == 1


class TestDelete:
    def test_extras_go_and_only_those(self, world: World) -> None:
        paths = world.server.name in PATHS
        kept = ["data/a/b", "data/sub/odd"] if paths else ["data/a", "data/a/b", "data/sub//odd", "data/trail/"]
        for key in kept:
            world.put(key.removeprefix("data/"))
        extras = [
            "data/a/",
            "data/a/c",
            "data/new/1",
            "data/new/2/3",
            "data//",
            "data/z\x01",
            "data/sub/odd",
            "data/trail",
        ]
        others = ["database", "data", "other/x"]
        if paths:
            extras = ["data/a/c", "data/new/1", "data/new/2/3"]
            others.remove("data")
        for key in [*kept, *extras, *others]:
            world.put(key, bucket=world.target)
        world.backup()
        plan = world.plan("data", delete=True)
        assert (plan.counts["delete"], plan.delete_bytes) == (len(extras), sum(len("body of " + e) for e in extras))
        assert world.restore("data", delete=True).deleted == len(extras)
        assert world.restored().keys() == {*kept, *others}

    def test_inside_what_was_asked_for(self, world: World) -> None:
        for key in ("docs/a", "other/a"):
            world.put(key)
        world.backup()
        for key in ("docs/x", "docs/keep.tmp", "other/x", "x"):
            world.put(key, bucket=world.target)
        done = world.restore(include=["docs"], exclude=["**/*.tmp"], delete=True)
        assert done.deleted == 1
        assert world.restored().keys() == {"docs/a", "docs/keep.tmp", "other/x", "x"}

    def test_markers_of_directories_stay(self, world: World) -> None:
        (world.tree / "full").mkdir()
        (world.tree / "full/x").write_text("x")
        (world.tree / "empty").mkdir()
        world.backup_tree()
        world.restore(place={"markers": True})
        world.put("empty/y", bucket=world.target)
        assert world.restore(delete=True).deleted == 1
        assert world.restored().keys() == {"empty/", "full/", "full/x"}

    def test_an_empty_snapshot_does_not_empty_the_target(self, world: World) -> None:
        world.backup_tree()
        world.put("precious", bucket=world.target)
        with pytest.raises(RestoreError, match="holds no file"):
            world.plan(delete=True)
        assert world.restore().exit_code == 0
        assert world.restored().keys() == {"precious"}


class TestTrouble:
    def test_interrupted_and_gone_on_with(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        for number in range(100):
            world.put(f"small/{number:03}", os.urandom(100))
        (world.tree / "big").write_bytes(os.urandom(30 << 20))
        world.server.client.upload_file(str(world.tree / "big"), world.source, "big")
        world.backup()
        part, put = S3Writer.part, S3Writer.put
        sent: list[str] = []

        def failing(self: S3Writer, key: str, upload: str, number: int, body: bytes) -> str:
            if number == 3:
                raise StoreUnavailable("cut off")
            return part(self, key, upload, number, body)

        def counted(self: S3Writer, key: str, *rest: Any, **more: Any) -> str:
            sent.append(key)
            return put(self, key, *rest, **more)

        monkeypatch.setattr(S3Writer, "part", failing)
        with pytest.raises(StoreUnavailable):
            world.restore()
        assert uploads(world.server.client, world.target) == []
        there = world.restored()
        assert "big" not in there
        monkeypatch.setattr(S3Writer, "part", part)
        monkeypatch.setattr(S3Writer, "put", counted)
        assert world.restore().exit_code == 0
        assert not set(sent) & set(there)
        assert world.restored() == world.original()

    def test_uploads_that_a_killed_restore_left_are_aborted(self, world: World) -> None:
        (world.tree / "big").write_bytes(os.urandom(20 << 20))
        world.backup_tree()
        client = world.server.client
        for key in ("big", "not ours"):
            client.create_multipart_upload(Bucket=world.target, Key=key)
        assert world.restore().exit_code == 0
        assert uploads(client, world.target) == ["not ours"]

    def test_what_appears_meanwhile_is_not_overwritten(self, world: World) -> None:
        (world.tree / "x").write_text("ours")
        (world.tree / "big").write_bytes(bytes(9 << 20))
        (world.tree / "twin").write_text("the same")
        world.backup_tree()
        plan = world.plan()
        world.restore(include=["twin"])
        for key in ("x", "big"):
            world.put(key, b"theirs", bucket=world.target)
        done = execute_restore(plan, world.repository, world.place())
        assert (done.exit_code, done.warning_counts) == (3, {"conflict": 2})
        assert {key: found["body"] for key, found in world.restored().items()} == {
            "x": b"theirs", "big": b"theirs", "twin": b"the same"
        }  # fmt: skip
        assert uploads(world.server.client, world.target) == []

    def test_twins(self, world: World) -> None:
        for number in range(100):
            world.put(f"{number % 7}/{number}", os.urandom(2000))
        world.backup()
        plans = [(world.plan(), world.place()) for _ in range(2)]
        with ThreadPoolExecutor(2) as pool:
            done = list(pool.map(lambda pair: execute_restore(pair[0], world.repository, pair[1]), plans))
        assert [each.exit_code for each in done] == [0, 0]
        assert world.restored() == world.original()

    def test_damage_leaves_no_upload_and_no_object(self, world: World) -> None:
        (world.tree / "big").write_bytes(os.urandom(30 << 20))
        (world.tree / "small").write_text("s")
        world.backup_tree()
        store: Any = world.repository.store
        packs = sorted(key for key in store._objects if key.startswith("packs/"))
        store.delete(packs[-1])
        target = world.place()
        done = execute_restore(world.plan(), world.repository, target)
        assert done.exit_code == 50
        assert uploads(world.server.client, world.target) == []
        assert "big" not in world.restored()

    def test_verify_reads_objects_again(self, world: World) -> None:
        (world.tree / "x").write_text("content")
        (world.tree / "big").write_bytes(os.urandom(10 << 20))
        world.backup_tree()
        assert world.restore().verified == 2
        head = world.server.client.head_object(Bucket=world.target, Key="x")
        world.put("x", b"CONTENT", bucket=world.target, Metadata=head["Metadata"])
        done = world.restore()
        assert (done.warning_counts, done.exit_code) == ({"differs": 1}, 3)

    @pytest.mark.parametrize("pages", [0, 1])
    def test_large_listings(self, world: World, pages: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(s3_target_looks, "_SUBTREE_PAGES", pages)
        for key in ("a/1", "a/b/2", "c/3", "4", "a//5"):
            world.put(key)
        world.backup()
        world.restore()
        assert world.plan().counts["create"] == 0
        assert world.restored() == world.original()


class TestErrors:
    def test_no_such_bucket(self, world: World) -> None:
        world.put("x")
        world.backup()
        world.target = "no-such-bucket-here"
        with pytest.raises(RestoreError, match="there is no bucket") as caught:
            world.plan()
        assert (caught.value.exit_code, bool(caught.value.hint)) == (60, True)

    @pytest.mark.parametrize(("code", "error"), [("AccessDenied", AccessDenied), ("SlowDown", StoreUnavailable)])
    def test_refused_writes(
        self, world: World, monkeypatch: pytest.MonkeyPatch, code: str, error: type[Exception]
    ) -> None:
        from botocore.exceptions import ClientError

        world.put("x")
        world.backup()
        target = world.place()

        def refuse(**arguments: Any) -> Any:
            raise ClientError({"Error": {"Code": code, "Message": "no"}}, "PutObject")

        monkeypatch.setattr(target._client, "put_object", refuse)
        with pytest.raises(error, match=code):
            execute_restore(world.plan(), world.repository, target)


def test_part_sizes() -> None:
    for size in (1, 8 << 20, 78 << 30, 79 << 30, 1 << 40, s3_writer.LARGEST):
        part = s3_writer.part_size(size)
        assert part >= 8 << 20
        assert -(-size // part) <= s3_writer.MOST_PARTS
    assert s3_writer.part_size(78 << 30) == 8 << 20
