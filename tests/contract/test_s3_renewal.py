"""Credentials that end while a bucket is read as a source, kept as a mirror, or restored into."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest

from expiring import Door, expiring
from mirroring import Clock, mirror_policy
from moraine.errors import AccessDenied
from moraine.sources.s3_client import S3Bucket, open_client
from moraine.sources.s3_target import S3Target
from moraine.sources.s3_writer import S3Writer
from moraine.steps.backup import Holder
from moraine.steps.mirror import mirror, open_state
from moraine.steps.mirror_place import open_mirror
from moraine.steps.restore import execute_restore
from moraine.steps.restore_plan import plan_restore
from moraine.steps.source import open_source
from moraine.steps.target import open_target
from moraine.stores.memory import MemoryStore
from servers import S3Server

ROLE = "arn:aws:iam::123456789012:role/backup"


@pytest.fixture
def world(s3_bucket: Callable[[str], tuple[S3Server, str]]) -> Iterator[tuple[Door, S3Server, str]]:
    server, bucket = s3_bucket("moto")
    with expiring(server, requests=7) as door:
        yield door, server, bucket


def assumed(door: Door) -> Any:
    """A session with the credentials of a role, as they are now: they end, and do not say when."""
    sts = boto3.client(
        "sts", endpoint_url=door.endpoint_url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    keys = sts.assume_role(RoleArn=ROLE, RoleSessionName="test")["Credentials"]
    return boto3.Session(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"], region_name="us-east-1")


def connected(door: Door, **more: Any) -> dict[str, Any]:
    return {"session": assumed(door), "renew": lambda: assumed(door), **more}


def client(door: Door) -> Any:
    return open_client(environ={}, region=None, endpoint_url=door.endpoint_url, **connected(door))


def test_every_request_goes_on_with_new_credentials(world: tuple[Door, S3Server, str]) -> None:
    door, _, bucket = world
    one = client(door)
    reading, writing = S3Bucket(one, bucket), S3Writer(one, bucket)
    for number in range(8):
        writing.put(f"k{number:02}", b"%d" % number, {}, create=True)
    for number in range(8):
        assert reading.look(f"k{number:02}").size == len(str(number))  # HEAD: refused without a word
        assert reading.read(f"k{number:02}", 0, 9).data == b"%d" % number
        assert len(reading.page("k").objects) == 8
    upload = writing.begin("large", {})
    parts = [writing.part("large", upload, number + 1, bytes(5 << 20)) for number in range(9)]
    writing.complete("large", upload, parts, create=True)
    assert reading.look("large").size == 45 << 20
    assert max(door.served.values()) == 7  # no key was good for more
    assert max(door.refused.values()) <= 2  # botocore asks a second time whether a bare 400 means another region


def test_rotated_keys_and_many_threads(world: tuple[Door, S3Server, str]) -> None:
    door, _, bucket = world
    door.refusal, door.requests = (403, "InvalidAccessKeyId"), 40
    writing = S3Writer(client(door), bucket)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: writing.put(f"k{number}", b"x", {}, create=True), range(120)))
    assert len(door.issued) == 3


def test_what_cannot_be_renewed_is_denied_at_once(world: tuple[Door, S3Server, str]) -> None:
    door, _, bucket = world
    same = assumed(door)
    door.requests = 0
    one = open_client(environ={}, region=None, endpoint_url=door.endpoint_url, session=same, renew=lambda: same)
    with pytest.raises(AccessDenied, match="ExpiredToken"):
        S3Bucket(one, bucket).page("")
    assert sum(door.refused.values()) == 1
    with pytest.raises(AccessDenied, match="ExpiredToken"):  # others, and they are refused as well
        S3Bucket(client(door), bucket).page("")
    assert 3 < sum(door.refused.values()) < 10


def test_a_profile_that_is_written_anew_is_read_anew(
    world: tuple[Door, S3Server, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    door, _, bucket = world
    file = tmp_path / "credentials"

    def write() -> None:
        keys = assumed(door).get_credentials().get_frozen_credentials()
        lines = {"aws_access_key_id": keys.access_key, "aws_secret_access_key": keys.secret_key}
        lines["aws_session_token"] = keys.token
        file.write_text("\n".join(["[backup]", *(f"{name} = {value}" for name, value in lines.items())]))

    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    write()
    one = open_client(session=None, environ={"AWS_PROFILE": "backup"}, region=None, endpoint_url=door.endpoint_url)
    for _ in range(7):
        S3Bucket(one, bucket).page("")
    write()
    S3Bucket(one, bucket).page("")
    assert len(door.issued) == 2


def test_a_versioned_bucket_is_mirrored_into_another_and_restored_with_keys_that_end_all_the_time(
    world: tuple[Door, S3Server, str],
) -> None:
    door, server, bucket = world
    server.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for number in range(12):
        server.client.put_object(Bucket=bucket, Key=f"raw/{number:02}", Body=b"%d" % number)
    source = {"kind": "s3", "bucket": bucket, "prefix": "raw/", "endpoint_url": door.endpoint_url, "history": True}
    policy = mirror_policy(source, {"url": f"s3://{bucket}/standby", "endpoint_url": door.endpoint_url})
    place = open_mirror(policy, **connected(door))
    assert place
    clock = Clock()
    repository = open_state(MemoryStore(), None, place, clock=clock, entropy=os.urandom)
    holder = Holder("here", "1", lambda mark: False)
    read = open_source(policy, **connected(door))
    done = mirror(repository, policy, read, clock=clock, entropy=os.urandom, holder=holder, work=MemoryStore())
    assert (done.committed.unreadable, done.notes) == (0, {})
    snapshot = repository.snapshot("latest")
    to = connected(door, endpoint_url=door.endpoint_url)
    target = open_target(f"s3://{bucket}/back", repository, snapshot, **to)
    assert isinstance(target, S3Target)
    assert execute_restore(plan_restore(repository, snapshot, target=target), repository, target).exit_code == 0
    for prefix in ("standby", "back"):
        for number in range(12):
            found = server.client.get_object(Bucket=bucket, Key=f"{prefix}/{number:02}")["Body"].read()
            assert found == b"%d" % number
    assert len(door.issued) > 8
    assert max(door.served.values()) == 7
