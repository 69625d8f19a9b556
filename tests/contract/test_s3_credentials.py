"""Credentials that expire while a store is at work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from expiring import Door, expiring
from moraine.errors import AccessDenied, ObjectNotFound, StoreUnavailable
from moraine.stores.base import Store
from moraine.stores.open import open_store
from servers import S3Server, told

Bucket = Callable[[str], tuple[S3Server, str]]
REFUSED = ClientError({"Error": {"Code": "AccessDenied", "Message": "no more"}}, "AssumeRole")
ROLE = "arn:aws:iam::123456789012:role/backup"


@pytest.fixture
def door(s3_bucket: Bucket) -> Iterator[tuple[Door, str]]:
    server, bucket = s3_bucket("moto")
    with expiring(server, requests=7) as door:
        yield door, bucket


def assumed(door: Door) -> Any:
    """A session with the credentials of a role, as they are now."""
    sts = boto3.client(
        "sts", endpoint_url=door.endpoint_url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    keys = sts.assume_role(RoleArn=ROLE, RoleSessionName="test")["Credentials"]
    return boto3.Session(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"], region_name="us-east-1")


def opened(door: Door, bucket: str, **more: Any) -> Store:
    return open_store(f"s3://{bucket}/x", endpoint_url=door.endpoint_url, session=assumed(door), **more)


def test_every_call_goes_on_with_new_credentials(door: tuple[Door, str]) -> None:
    at, bucket = door
    store = opened(at, bucket, renew=lambda: assumed(at))
    for number in range(20):
        store.put(f"k{number:02}", b"%d" % number)
    assert [info.key for info in store.list("")] == [f"k{number:02}" for number in range(20)]
    assert [store.get(f"k{number:02}") for number in range(20)] == [b"%d" % number for number in range(20)]
    for number in range(20):
        assert store.head(f"k{number:02}").size == len(str(number))
        assert store.get_range(f"k{number:02}", 0, 1) == b"%d" % (number % 10 if number < 10 else number // 10)
        store.delete(f"k{number:02}")
    with pytest.raises(ObjectNotFound):
        store.get("k00")
    assert len(at.issued) > 10
    assert max(at.served.values()) == 7  # no key was good for more
    assert max(at.refused.values()) == 1  # nor asked with again


def test_keys_that_were_rotated_are_read_anew(door: tuple[Door, str]) -> None:
    at, bucket = door
    at.refusal = (403, "InvalidAccessKeyId")
    store = opened(at, bucket, renew=lambda: assumed(at))
    for number in range(10):
        store.put(f"k{number}", b"x")
    assert len(at.issued) == 2


def test_threads_that_meet_the_same_refusal_renew_once(door: tuple[Door, str]) -> None:
    at, bucket = door
    at.requests = 40
    store = opened(at, bucket, renew=lambda: assumed(at))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.put(f"k{number}", b"x"), range(120)))
    assert len([*store.list("")]) == 120
    assert len(at.issued) == 4  # 120 puts and a listing in forties


def test_what_cannot_be_renewed_is_denied(door: tuple[Door, str]) -> None:
    at, bucket = door
    store = opened(at, bucket)
    for _ in range(7):
        list(store.list(""))
    with pytest.raises(AccessDenied, match="ExpiredToken said the door") as caught:
        list(store.list(""))
    assert "renew them" in str(caught.value.hint)
    same = assumed(at)
    store = open_store(f"s3://{bucket}/x", endpoint_url=at.endpoint_url, session=same, renew=lambda: same)
    at.requests = 0
    with pytest.raises(AccessDenied):
        store.get("k")


def test_a_store_that_always_refuses_is_given_up() -> None:
    with told() as server:
        server.error(400, "ExpiredToken")
        keys = iter(range(1000))
        store = open_store(
            "s3://bucket",
            endpoint_url=server.endpoint_url,
            session=boto3.Session("first", "secret", region_name="us-east-1"),
            renew=lambda: boto3.Session(f"k{next(keys)}", "secret", region_name="us-east-1"),
            patience=0.5,
        )
        with pytest.raises(StoreUnavailable, match="credentials were renewed"):
            store.put("key", b"x")
        assert 2 < len(server.requests) < 100


def test_an_aws_profile_that_is_written_anew_is_read_anew(
    door: tuple[Door, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, bucket = door
    file = tmp_path / "credentials"

    def write() -> None:
        found = assumed(at).get_credentials().get_frozen_credentials()
        lines = {"aws_access_key_id": found.access_key, "aws_secret_access_key": found.secret_key}
        lines["aws_session_token"] = found.token
        file.write_text("\n".join(["[backup]", *(f"{name} = {value}" for name, value in lines.items())]))

    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    write()
    store = open_store(f"s3://{bucket}/x", endpoint_url=at.endpoint_url, environ={"AWS_PROFILE": "backup"})
    for number in range(7):
        store.put(f"k{number}", b"x")
    write()
    store.put("k7", b"x")
    assert len(at.issued) == 2


def test_a_role_that_is_no_longer_given(door: tuple[Door, str]) -> None:
    at, bucket = door
    store = opened(at, bucket, renew=lambda: assumed(at))
    at.closed, at.requests = True, 0
    with pytest.raises(AccessDenied) as caught:
        store.get("k")
    assert "AssumeRole" in str(caught.value)
    assert "assume the role" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("error", "kind"), [(REFUSED, AccessDenied), (EndpointConnectionError(endpoint_url="http://sts"), StoreUnavailable)]
)
def test_trouble_of_the_session_itself_is_told_apart(error: Exception, kind: type[Exception]) -> None:
    class Credentials:
        def get_frozen_credentials(self) -> Any:
            raise error

    class Session:
        region_name = "us-east-1"

        def get_credentials(self) -> Credentials:
            return Credentials()

    store = open_store("s3://bucket", endpoint_url="http://127.0.0.1:9", session=Session(), patience=0.1)
    with pytest.raises(kind, match=r"no more|Could not connect"):
        store.get("key")
