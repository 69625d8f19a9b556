"""Mirrors in a bucket, on real servers: an object for each file, whole and at once, and what a bucket cannot hold."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from compare import compare_trees
from mirroring import Clock, mirror_policy
from moraine.cli.main import main
from moraine.errors import AccessDenied, StoreUnavailable
from moraine.model.policy_mirror import STATE
from moraine.repository.repository import Repository
from moraine.sources.posix_target import PosixTarget
from moraine.sources.s3_mirror_client import MirrorBucket
from moraine.sources.s3_mirror_writer import PART
from moraine.steps.backup import Holder
from moraine.steps.mirror import Mirrored, mirror, open_state
from moraine.steps.mirror_check import check_mirror
from moraine.steps.mirror_place import open_mirror
from moraine.steps.restore import execute_restore
from moraine.steps.restore_plan import plan_restore
from moraine.steps.source import open_source
from moraine.stores.memory import MemoryStore
from moraine.stores.open import open_store
from nasty import make_nasty_tree
from servers import PATHS, SERVERS, S3Server

ODD = ["a/b", "a//b", "trail/", "../up", "%p", "%empty/x", "tab\tand", "sp ace+plus&<x>", "é/z", "x" * 900]


@dataclass
class Bucket:
    """A mirror in a bucket, night after night."""

    server: S3Server
    name: str
    source: Path | dict[str, Any]

    def __post_init__(self) -> None:
        self.clock = Clock()
        to = {"url": f"s3://{self.name}/standby", "endpoint_url": self.server.endpoint_url}
        # Under load versitygw lets two creations of one key through, and the probe finds it: no place for a repository.
        self.state = MemoryStore() if self.server.name in PATHS else None
        self.policy = mirror_policy(self.source, to, limits={"unreadable_share": 1.0})

    @property
    def environ(self) -> dict[str, str]:
        return dict(self.server.credentials)

    @property
    def repository(self) -> Repository:
        address = self.policy.repository
        store = self.state or open_store(address.url, endpoint_url=address.endpoint_url, environ=self.environ)
        found = open_mirror(self.policy, environ=self.environ)
        assert found
        return open_state(store, None, found, clock=self.clock, entropy=os.urandom)

    def night(self) -> Mirrored:
        self.clock.advance(hours=24)
        return mirror(
            self.repository,
            self.policy,
            open_source(self.policy, environ=self.environ),
            clock=self.clock,
            entropy=os.urandom,
            holder=Holder("host", "1", lambda mark: False),
            work=MemoryStore(),
        )

    def objects(self) -> dict[str, bytes]:
        """Key after the mirror's prefix → content, its own folder left out."""
        found = {}
        for page in self.server.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix="standby/"):
            for item in page.get("Contents", ()):
                key = item["Key"].removeprefix("standby/")
                if not key.startswith(f"{STATE}/") or "/trash/" in key:
                    found[key] = self.server.client.get_object(Bucket=self.name, Key=item["Key"])["Body"].read()
        return found

    def tree(self) -> dict[str, bytes]:
        return {key: body for key, body in self.objects().items() if not key.startswith(f"{STATE}/")}

    def trashed(self) -> list[str]:
        return sorted(key.split("/", 3)[3] for key in self.objects() if key.startswith(f"{STATE}/trash/"))


def files_of(source: Path) -> dict[str, bytes]:
    found = (path for path in source.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(source)): path.read_bytes() for path in found}


@pytest.fixture(params=SERVERS)
def bucket(request: pytest.FixtureRequest, s3_bucket: Callable[[str], tuple[S3Server, str]], tmp_path: Path) -> Bucket:
    source = tmp_path / "source"
    for name in ("kept", "sub/edited", "sub/gone", "%odd/%name", "empty"):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"first {name}" if name != "empty" else "")
    (source / "link").symlink_to("kept")
    (source / "large").write_bytes(os.urandom(PART + 4096))
    os.truncate(source / "large", 2 * PART + 5)
    os.utime(source / "kept", ns=(1, 1_700_000_000_123_456_789))
    return Bucket(*s3_bucket(request.param), source)


def test_two_nights_with_trash_drift_and_purge(bucket: Bucket, tmp_path: Path) -> None:
    source = tmp_path / "source"
    first = bucket.night()
    assert bucket.tree() == files_of(source)
    assert first.only_listed == 4, "two folders, the root and a symlink"
    held = bucket.server.client.head_object(Bucket=bucket.name, Key="standby/kept")["Metadata"]
    assert (held["mtime"], held["mode"]) == ("1700000000.123456789", f"{(source / 'kept').stat().st_mode:o}")
    (source / "sub/edited").write_text("second")
    (source / "sub/gone").unlink()
    os.chmod(source / "kept", 0o600)
    second = bucket.night()
    assert sum(second.drift["counts"].values()) == 0
    assert bucket.tree() == files_of(source)
    assert bucket.trashed() == ["sub/edited", "sub/gone"]
    put = bucket.server.client.put_object
    put(Bucket=bucket.name, Key="standby/stranger", Body=b"theirs")
    put(Bucket=bucket.name, Key="standby/sub/edited", Body=b"SECOND")
    bucket.server.client.delete_object(Bucket=bucket.name, Key="standby/kept")
    problems = check_mirror(bucket.repository, read_data=1.0, clock=bucket.clock).problems
    assert {problem["code"] for problem in problems} >= {"mirror-added", "mirror-changed", "mirror-missing"}
    third = bucket.night()
    assert third.drift["counts"] == {"missing": 1, "added": 1, "changed": 1, "attributes": 0}
    assert bucket.tree() == files_of(source)
    assert bucket.trashed() == ["stranger", "sub/edited", "sub/edited", "sub/gone"]
    assert check_mirror(bucket.repository, read_data=1.0, clock=bucket.clock).problems == []
    bucket.clock.now += timedelta(days=40)
    assert len(bucket.night().purged) == 2
    assert bucket.trashed() == []


def test_a_restore_brings_back_what_the_bucket_cannot_hold(bucket: Bucket, tmp_path: Path) -> None:
    bucket.night()
    repository, target = bucket.repository, PosixTarget(tmp_path / "restored")
    plan = plan_restore(repository, repository.snapshot("latest"), target=target)
    assert execute_restore(plan, repository, target, verify=True).exit_code == 0
    assert compare_trees(tmp_path / "source", tmp_path / "restored") == []


@pytest.mark.slow
def test_the_nasty_tree_says_what_a_bucket_cannot_hold(
    s3_bucket: Callable[[str], tuple[S3Server, str]], tmp_path: Path
) -> None:
    source = tmp_path / "source"
    make_nasty_tree(source, as_root=False)
    for huge in (source / "sparse").iterdir():
        huge.unlink()
    bucket = Bucket(*s3_bucket("moto"), source)
    done = bucket.night()
    assert done.exit_code == 3
    assert done.only_listed > 20
    assert done.notes["failed"] == done.committed.unreadable
    assert any("utf-8" in item["message"] for item in done.named)
    kept = bucket.tree()
    for name in ("contents", "links/sub", "modes"):  # their names are plain
        here = {str(path.relative_to(source)): path for path in (source / name).iterdir()}
        files = {key: path.read_bytes() for key, path in here.items() if path.is_file() and not path.is_symlink()}
        assert {key: kept.get(key) for key in files} == files
    again = bucket.night()
    assert sum(again.drift["counts"].values()) == 0
    assert again.removed == 0


def test_a_bucket_mirrored_into_a_bucket_keeps_every_key(
    s3_bucket: Callable[[str], tuple[S3Server, str]], tmp_path: Path
) -> None:
    server, name = s3_bucket("moto")
    for key in ODD:
        server.client.put_object(
            Bucket=name, Key=f"raw/{key}", Body=key.encode(), ContentType="text/odd", Metadata={"who": "me"}
        )
    source = {"kind": "s3", "bucket": name, "prefix": "raw/", "endpoint_url": server.endpoint_url}
    bucket = Bucket(server, name, source)
    bucket.night()
    assert bucket.tree() == {key: key.encode() for key in ODD}
    held = server.client.head_object(Bucket=name, Key="standby/a//b")
    assert (held["ContentType"], held["Metadata"]) == ("text/odd", {"who": "me"})
    server.client.delete_object(Bucket=name, Key="raw/a//b")
    server.client.put_object(Bucket=name, Key="raw/trail/", Body=b"changed")
    again = bucket.night()
    assert sum(again.drift["counts"].values()) == 0
    assert bucket.tree() == {key: b"changed" if key == "trail/" else key.encode() for key in ODD if key != "a//b"}
    assert bucket.trashed() == ["a//b", "trail/"]


def test_a_large_object_that_was_not_ended_leaves_no_parts(bucket: Bucket, tmp_path: Path) -> None:
    client = bucket.server.client
    bucket.night()
    client.create_multipart_upload(Bucket=bucket.name, Key="standby/never-ended")
    assert bucket.night().committed.exit_code == 0
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket.name)


def test_a_run_cut_off_anywhere_is_gone_on_with(
    s3_bucket: Callable[[str], tuple[S3Server, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(6):
        (source / f"file-{number}").write_text(f"first {number}")
    bucket = Bucket(*s3_bucket("moto"), source)
    bucket.night()
    for cut in (1, 3, 5, 7):
        before = files_of(source)
        for number in range(4):
            (source / f"file-{number}").write_text(f"after cut {cut}: {number}")
        (source / f"file-{number}").rename(source / f"renamed-{cut}")
        (source / "file-3").write_text("back again")
        calls = count(1)

        def cut_off(real: Any, calls: Any = calls, cut: int = cut) -> Any:
            def call(*args: Any, **more: Any) -> Any:
                if next(calls) >= cut:
                    raise StoreUnavailable("cut off")
                return real(*args, **more)

            return call

        with monkeypatch.context() as patch:
            for name in ("put", "keep", "delete"):
                patch.setattr(MirrorBucket, name, cut_off(getattr(MirrorBucket, name)))
            with pytest.raises(StoreUnavailable):
                bucket.night()
        after = files_of(source)
        for key, body in bucket.tree().items():
            assert body in (before.get(key), after.get(key))
        assert sum(bucket.night().drift["counts"].values()) == 0
        assert bucket.tree() == after
        kept = {body for key, body in bucket.objects().items()}
        assert set(before.values()) <= kept, "what was replaced is in the trash"


def test_what_the_bucket_will_not_delete_stops_the_run(bucket: Bucket, tmp_path: Path) -> None:
    bucket.night()
    (tmp_path / "source/sub/gone").unlink()
    wrong = {"Errors": [{"Key": "standby/sub/gone", "Code": "AccessDenied", "Message": "it is retained"}]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MirrorBucket, "delete", lambda self, keys: [(e["Key"], e["Message"]) for e in wrong["Errors"]])
        with pytest.raises(AccessDenied, match="it is retained"):
            bucket.night()
    assert "sub/gone" in bucket.tree()
    bucket.night()
    assert bucket.tree() == files_of(tmp_path / "source")


def test_a_mirror_restores_into_a_bucket(
    s3_bucket: Callable[[str], tuple[S3Server, str]],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, to = tmp_path / "source", tmp_path / "mirror"
    (source / "sub").mkdir(parents=True)
    (source / "sub/small").write_text("small")
    (source / "large").write_bytes(os.urandom(20 << 20))
    server, name = s3_bucket("moto")
    for variable, value in server.credentials.items():
        monkeypatch.setenv(variable, value)
    assert main(["mirror", str(source), str(to)]) == 0
    flags = ["--to", f"s3://{name}/out", "--to-endpoint-url", server.endpoint_url]
    assert main(["restore", "latest", "--repo", str(to), *flags]) == 0, capfd.readouterr().err
    for path in ("sub/small", "large"):
        found = server.client.get_object(Bucket=name, Key=f"out/{path}")["Body"].read()
        assert found == (source / path).read_bytes()
