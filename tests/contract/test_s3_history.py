"""Windows of the past over a bucket that keeps versions, on real servers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from buckets import objects
from moraine.errors import SourceDenied, SourceError
from moraine.model.entry import Kind, State, join_path
from moraine.model.policy import Policy
from moraine.model.policy_file import validate_policy
from moraine.model.window import Window
from moraine.model.xattrs import decode_xattrs
from moraine.repository.repository import Repository
from moraine.sources.s3 import S3Source
from moraine.sources.s3_client import S3Bucket, open_client
from moraine.sources.s3_versions import kept_for
from moraine.steps.close import close_run
from moraine.steps.commit import Committed, commit
from moraine.steps.copy import copy_shard
from moraine.steps.diff import Diffed, diff_entries
from moraine.steps.list import Listed, list_entries
from moraine.steps.open import open_run
from moraine.steps.restore import execute_restore
from moraine.steps.restore_plan import plan_restore
from moraine.steps.run import Run
from moraine.steps.source import open_source
from moraine.steps.target import open_target
from moraine.steps.verify import verify_shard
from moraine.stores.memory import MemoryStore
from night import make_repository
from restored import restore
from servers import S3Server, told


@dataclass
class Past:
    """A bucket that keeps versions, what it held at some instants, and a repository."""

    server: S3Server
    name: str
    held: dict[datetime, dict[str, bytes]] = field(default_factory=dict)
    body: dict[str, bytes] = field(default_factory=dict)
    now: datetime | None = None

    def __post_init__(self) -> None:
        self.client = self.server.client
        self.client.put_bucket_versioning(Bucket=self.name, VersioningConfiguration={"Status": "Enabled"})
        self.repository: Repository = make_repository(MemoryStore(), self.clock)

    def clock(self) -> datetime:
        return self.now or datetime.now(UTC) + timedelta(hours=1)

    def put(self, key: str, body: bytes, **more: Any) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=body, **more)
        self.body[key] = body

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)
        self.body.pop(key, None)

    def end_window(self) -> datetime:
        """An instant between what was done so far and what comes; servers may tell whole seconds only."""
        time.sleep(1.05)
        end = datetime.now(UTC).replace(microsecond=0)
        self.held[end] = dict(self.body)
        time.sleep(max(0.0, (end - datetime.now(UTC)).total_seconds()) + 0.05)
        return end

    @property
    def policy(self) -> Policy:
        source = {"kind": "s3", "bucket": self.name, "endpoint_url": self.server.endpoint_url, "history": True}
        return validate_policy({"policy": "lake", "source": source, "repository": {"url": "memory://"}, "rehash": 0.0})

    def source(self) -> S3Source:
        source = open_source(self.policy, session=self.server.session())
        assert isinstance(source, S3Source)
        return source

    def open(self, end: datetime) -> Run:
        return open_run(
            self.repository,
            self.policy,
            self.source(),
            run=f"run {end}",
            window=Window(end - timedelta(minutes=1), end),
            clock=self.clock,
            entropy=os.urandom,
        )

    def listed(self, run: Run) -> tuple[Listed, Diffed]:
        listed = list_entries(run, run.source.shards(4)[0])
        return listed, diff_entries(run, [listed])

    def finish(self, run: Run, diffed: Diffed) -> Committed:
        copied = [copy_shard(run, diffed.changes, shard.number).outcome for shard in diffed.shards]
        evidence = [verify_shard(run, outcome).evidence for outcome in copied]
        committed = commit(run, diffed, copied, evidence)
        close_run(self.repository, run.session.id, clock=self.clock)
        return committed

    def capture(self, end: datetime) -> Committed:
        run = self.open(end)
        return self.finish(run, self.listed(run)[1])

    def rows(self, night: Committed) -> dict[bytes, dict[str, Any]]:
        rows = self.repository.manifest(self.repository.snapshot(night.snapshot)).table().to_pylist()
        return {join_path(row["dir"], row["name"]): row for row in rows if row["kind"] == Kind.FILE}


@pytest.fixture(params=["moto", "ministack"])
def past(request: pytest.FixtureRequest, s3_bucket: Callable[[str], tuple[S3Server, str]]) -> Past:
    return Past(*s3_bucket(request.param))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_window_is_captured_as_of_its_end_in_any_order(past: Past, tmp_path: Path) -> None:
    past.put("keep", b"always")
    past.put("change", b"one")
    past.put("deep/er/go", b"gone soon")
    first = past.end_window()
    past.put("change", b"two")
    past.delete("deep/er/go")
    past.put("large", os.urandom(9 << 20))
    second = past.end_window()
    past.put("change", b"in between")
    past.put("change", b"three")
    past.put("deep/er/go", b"back")
    past.put("large", b"small")
    third = past.end_window()
    past.put("keep", b"after all windows")
    past.delete("change")

    nights = {end: past.capture(end) for end in (third, first, second)}
    for end, night in nights.items():
        restore(past.repository, night.snapshot, out := tmp_path / f"{end:%H%M%S}")
        assert files(out) == past.held[end]
        assert night.exit_code == 0 and not night.late
    assert nights[second].racy == 0
    versions = {
        path: decode_xattrs(row["xattrs"])[b"user.s3.version-id"] for path, row in past.rows(nights[first]).items()
    }
    listed = past.client.list_object_versions(Bucket=past.name)["Versions"]
    assert versions[b"change"].decode() == [item["VersionId"] for item in listed if item["Key"] == "change"][-1]
    parents = {s.id: past.repository.snapshot(s.id).parent for s in past.repository.state.snapshots.values()}
    assert parents[nights[second].snapshot] == nights[first].snapshot, "compared with the window before it"
    assert past.rows(nights[second])[b"keep"] == past.rows(nights[first])[b"keep"], "not read again"


def test_what_is_overwritten_or_deleted_after_the_listing_is_still_read_as_listed(past: Past, tmp_path: Path) -> None:
    for number in range(20):
        past.put(f"many/{number}", b"old %d" % number)
    past.put("vanishing", b"old")
    end = past.end_window()
    run = past.open(end)
    _, diffed = past.listed(run)
    for number in range(20):
        past.put(f"many/{number}", b"new %d!" % number) if number % 2 else past.delete(f"many/{number}")
    version = past.client.list_object_versions(Bucket=past.name, Prefix="vanishing")["Versions"][0]["VersionId"]
    past.client.delete_object(Bucket=past.name, Key="vanishing", VersionId=version)
    night = past.finish(run, diffed)
    rows = past.rows(night)
    assert {path for path, row in rows.items() if row["state"] != State.OK} == {b"vanishing"}
    assert rows[b"vanishing"]["state"] == State.VANISHED
    restore(past.repository, night.snapshot, tmp_path / "out")
    assert files(tmp_path / "out") == {k: v for k, v in past.held[end].items() if k != "vanishing"}


def test_objects_from_before_versioning_are_there(past: Past) -> None:
    past.client.put_bucket_versioning(Bucket=past.name, VersioningConfiguration={"Status": "Suspended"})
    with pytest.raises(SourceError, match="keeps no versions: versioning is suspended"):
        past.source().probe()
    past.put("old", b"from before")
    past.client.put_bucket_versioning(Bucket=past.name, VersioningConfiguration={"Status": "Enabled"})
    first = past.end_window()
    past.put("old", b"new")
    rows = past.rows(past.capture(first))
    assert decode_xattrs(rows[b"old"]["xattrs"])[b"user.s3.version-id"] == b"null"
    assert rows[b"old"]["size"] == len(b"from before")


def test_a_bucket_without_versions_has_no_history(s3_bucket: Callable[[str], tuple[S3Server, str]]) -> None:
    server, name = s3_bucket("moto")
    source = S3Source(name, client=lambda: server.client, history=True)
    with pytest.raises(SourceError, match="versioning is off") as caught:
        source.probe()
    assert "turn versioning on" in (caught.value.hint or "")
    assert S3Source(name, client=lambda: server.client).probe().history is None


def test_archived_versions_are_denied(past: Past) -> None:
    past.put("cold", b"x", StorageClass="GLACIER")
    past.put("warm", b"x")
    end = past.end_window()
    past.put("cold", b"warm by now")
    run = past.open(end)
    listed, diffed = past.listed(run)
    assert listed.denied == 1
    assert any("GLACIER" in remark for remark in listed.remarks)
    assert diffed.counts["denied"] == 1


def test_history_that_the_lifecycle_cuts_is_refused_and_traces_are_counted(past: Past) -> None:
    past.put("a", b"1")
    end = past.end_window()
    past.delete("a")
    versions = past.client.list_object_versions(Bucket=past.name)["Versions"]
    run = past.open(end)
    assert past.listed(run)[0].remarks == ()
    past.client.delete_object(Bucket=past.name, Key="a", VersionId=versions[0]["VersionId"])
    assert "1 key may have held something" in past.listed(run)[0].remarks[0]

    expire = {"NoncurrentVersionExpiration": {"NoncurrentDays": 2}, "Status": "Enabled", "ID": "x"}
    rules = {"Rules": [expire | {"Filter": {"Prefix": ""}}]}
    past.client.put_bucket_lifecycle_configuration(Bucket=past.name, LifecycleConfiguration=rules)
    assert past.source().probe().history == timedelta(days=2)
    past.now = end + timedelta(days=2) - timedelta(seconds=1)
    past.listed(run)
    past.now = end + timedelta(days=2)
    with pytest.raises(SourceError, match="removes versions 2 days after they are replaced"):
        past.listed(run)


@pytest.mark.parametrize(
    ("rule", "days"),
    [
        ({"Filter": {"Prefix": ""}}, 3),
        ({"Filter": {}}, 3),
        ({"Prefix": "raw/orders/2026/"}, 3),
        ({"Filter": {"And": {"Prefix": "raw/", "Tags": []}}}, 3),
        ({"Filter": {"Prefix": "other/"}}, None),
        ({"Filter": {"Prefix": ""}, "Status": "Disabled"}, None),
        ({"Filter": {"Prefix": ""}, "NoncurrentVersionExpiration": {}}, None),
    ],
)
def test_only_rules_that_may_touch_the_prefix_count(rule: dict[str, Any], days: int | None) -> None:
    class Client:
        def get_bucket_versioning(self, **more: Any) -> dict[str, Any]:
            return {"Status": "Enabled"}

        def get_bucket_lifecycle_configuration(self, **more: Any) -> dict[str, Any]:
            return {"Rules": [{"Status": "Enabled", "NoncurrentVersionExpiration": {"NoncurrentDays": 3}} | rule]}

    kept = kept_for(S3Bucket(Client(), "bucket"), "raw/orders/")
    assert kept == (timedelta(days=days) if days else timedelta.max)


def test_a_configuration_that_may_not_be_read_names_the_permission() -> None:
    with told() as server:
        server.error(403, "AccessDenied")
        environ = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
        client = open_client(session=None, environ=environ, region="us-east-1", endpoint_url=server.endpoint_url)
        with pytest.raises(SourceDenied) as caught:
            kept_for(S3Bucket(client, "bucket"), "")
    assert "allow s3:GetBucketVersioning" in (caught.value.hint or "")


def test_a_past_window_comes_back_into_a_bucket_as_it_was(
    past: Past, s3_bucket: Callable[[str], tuple[S3Server, str]]
) -> None:
    past.put("keep", b"always", ContentType="text/plain", Metadata={"who": "me"})
    past.put("odd//key", b"one", Metadata={"turn": "1"})
    past.put("trail/", b"soon gone")
    past.put("empty", b"")
    then = objects(past.client, past.name)
    end = past.end_window()
    past.put("odd//key", b"two", Metadata={"turn": "2"})
    past.put("later", b"not then")
    past.delete("trail/")
    late = past.capture(past.end_window())
    early = past.capture(end)  # a backfill, after a later window
    _, name = s3_bucket(past.server.name)
    for night, held in ((late, objects(past.client, past.name)), (early, then)):
        snapshot = past.repository.snapshot(night.snapshot)
        to = {"session": past.server.session(), "endpoint_url": past.server.endpoint_url}
        target = open_target(f"s3://{name}/back", past.repository, snapshot, delete=True, **to)
        plan = plan_restore(past.repository, snapshot, target=target, delete=True)
        assert execute_restore(plan, past.repository, target, verify=True).exit_code == 0
        assert objects(past.client, name, "back/") == held
        again = plan_restore(past.repository, snapshot, target=target, delete=True)
        assert {verdict for verdict, count in again.counts.items() if count} == {"nothing"}
