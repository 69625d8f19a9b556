"""The S3 store: what servers say, credentials, and what the SDK must not do behind our back."""

from __future__ import annotations

import os
import pickle
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from moraine.errors import (
    AccessDenied,
    ConfigError,
    MoraineError,
    ObjectExists,
    ObjectNotFound,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from moraine.stores.base import Store
from moraine.stores.open import open_store
from moraine.stores.s3 import S3Store, chain_credentials, key_credentials
from servers import CREDENTIALS, SERVERS, S3Server, Told, free_port, told

Bucket = Callable[[str], tuple[S3Server, str]]
TESTER = key_credentials(CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"], None)


def s3(endpoint_url: str, bucket: str = "bucket", prefix: str = "", **options: Any) -> S3Store:
    options.setdefault("credentials", key_credentials("access", "secret", None))
    return S3Store(bucket, prefix, endpoint_url=endpoint_url, **options)


VERBS: dict[str, Callable[[Store], Any]] = {
    "put": lambda store: store.put("a/key", b"content"),
    "get": lambda store: store.get("a/key"),
    "get_range": lambda store: store.get_range("a/key", 2, 3),
    "head": lambda store: store.head("a/key"),
    "list": lambda store: list(store.list("a/")),
    "delete": lambda store: store.delete("a/key"),
}
every_verb = pytest.mark.parametrize("verb", list(VERBS))


@pytest.fixture
def server() -> Iterator[Told]:
    with told() as server:
        yield server


def failure_of(call: Callable[[], Any]) -> MoraineError:
    with pytest.raises(MoraineError) as raised:
        call()
    assert raised.value.__cause__ is not None
    pickle.loads(pickle.dumps(raised.value))
    return raised.value


@every_verb
def test_a_closed_port(verb: str) -> None:
    error = failure_of(lambda: VERBS[verb](s3(f"http://127.0.0.1:{free_port()}")))
    assert type(error) is StoreUnavailable
    assert "Connection refused" in error.message
    assert "s3://bucket" in error.message


@every_verb
@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (401, "Unauthorized", AccessDenied), (403, "AccessDenied", AccessDenied), (400, "ExpiredToken", AccessDenied),
        (404, "XAdminUserNotFound", AccessDenied),
        (403, "QuotaExceeded", StoreFull), (507, "XMinioStorageFull", StoreFull),
        (429, "TooManyRequests", StoreUnavailable), (503, "SlowDown", StoreUnavailable),
        (500, "InternalError", StoreUnavailable), (502, "", StoreUnavailable), (504, "", StoreUnavailable),
        (400, "RequestTimeout", StoreUnavailable),
        (400, "InvalidArgument", StoreError), (501, "NotImplemented", StoreError), (405, "", StoreError),
        (301, "PermanentRedirect", StoreError), (404, "NoSuchBucket", StoreError),
    ],
)  # fmt: skip
def test_what_the_server_says(server: Told, verb: str, status: int, code: str, expected: type[MoraineError]) -> None:
    if verb == "head" and (status == 400 or code in ("QuotaExceeded", "NoSuchBucket", "XAdminUserNotFound")):
        pytest.skip("the answer to HEAD has no body")
    server.error(status, code)
    error = failure_of(lambda: VERBS[verb](s3(server.endpoint_url)))
    assert type(error) is expected
    assert len(server.requests) == 1, "the SDK must not retry"
    assert status == 301 or str(status) in error.message
    assert "\n" not in error.message
    assert "RetryError" not in error.message


def test_hints_say_what_to_do(server: Told) -> None:
    hints = {}
    for status, code, verb in [
        (404, "NoSuchBucket", "put"), (301, "PermanentRedirect", "get"), (403, "AccessDenied", "get"),
        (403, "RequestTimeTooSkewed", "put"), (501, "NotImplemented", "put"),
    ]:  # fmt: skip
        server.error(status, code)
        hints[code] = failure_of(lambda verb=verb: VERBS[verb](s3(server.endpoint_url))).hint or ""  # type: ignore[misc]
    assert "bucket" in hints["NoSuchBucket"]
    assert "region" in hints["PermanentRedirect"]
    assert "s3:ListBucket" in hints["AccessDenied"]
    assert "clock" in hints["RequestTimeTooSkewed"]
    assert "If-None-Match" in hints["NotImplemented"]


def test_what_is_missing_or_there(server: Told) -> None:
    store = s3(server.endpoint_url)
    server.error(404, "NoSuchKey")
    for verb in ("get", "get_range", "head"):
        assert type(failure_of(lambda verb=verb: VERBS[verb](store))) is ObjectNotFound  # type: ignore[misc]
    store.delete("a/key")
    server.error(412, "PreconditionFailed")
    assert type(failure_of(lambda: store.put("a/key", b""))) is ObjectExists


def test_a_name_that_is_a_folders_is_final(s3_bucket: Bucket) -> None:
    server, bucket = s3_bucket("versitygw")
    store = s3(server.endpoint_url, bucket, credentials=TESTER)
    store.put("a/b", b"")
    store.put("c", b"")
    for key in ("a", "c/d"):
        error = failure_of(lambda key=key: store.put(key, b""))  # type: ignore[misc]
        assert type(error) is StoreError
        assert "beside" in (error.hint or "")


def test_a_conflict_is_no_proof_that_an_object_exists(server: Told) -> None:
    conflict = (409, b"<Error><Code>ConditionalRequestConflict</Code></Error>")
    server.answers = [conflict, (404, b"")]
    assert type(failure_of(lambda: s3(server.endpoint_url).put("key", b""))) is StoreUnavailable
    server.answers = [conflict, (200, b"")]
    assert type(failure_of(lambda: s3(server.endpoint_url).put("key", b""))) is ObjectExists


@every_verb
def test_a_connection_that_breaks(server: Told, verb: str) -> None:
    server.answers = [None]
    assert type(failure_of(lambda: VERBS[verb](s3(server.endpoint_url)))) is StoreUnavailable


def test_a_body_that_breaks_off() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        store = s3(f"http://127.0.0.1:{listener.getsockname()[1]}")
        pid = os.fork()
        if pid == 0:
            connection, _ = listener.accept()
            connection.recv(1 << 16)
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nLast-Modified: Sat, 21 Nov 2026 00:00:00 GMT\r\n\r\nhalf"
            )
            os._exit(0)
        assert type(failure_of(lambda: store.get("key"))) is StoreUnavailable
        os.waitpid(pid, 0)


def test_an_answer_that_makes_no_sense_is_final(server: Told) -> None:
    server.answers = [(200, b"<html>a page of some proxy</html>")]
    server.etag = ""
    assert type(failure_of(lambda: s3(server.endpoint_url).put("key", b""))) is StoreError


def test_what_is_sent(server: Told) -> None:
    server.answers = [(200, b"")]
    data = bytes(12 << 20)
    s3(server.endpoint_url, "name", "some/prefix").put("a=1/key", data)
    ((method, path, headers),) = server.requests
    assert (method, path) == ("PUT", "/name/some/prefix/a%3D1/key")
    sent = {name.lower(): value for name, value in headers.items()}
    assert sent["if-none-match"] == "*"
    assert sent["content-length"] == str(len(data))
    assert len(sent["x-amz-content-sha256"]) == 64, "the server checks what arrives"


def test_the_environment_of_the_process_is_not_asked(server: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "wrong")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "wrong")
    monkeypatch.setenv("AWS_REGION", "wrong")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_UNSIGNED_PAYLOAD", "true")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")
    server.answers = [(200, b"x")]
    store = open_store("s3://bucket/p", endpoint_url=server.endpoint_url, environ={**CREDENTIALS, "AWS_REGION": "eu-x"})
    store.put("key", b"x")
    ((_, path, headers),) = server.requests
    assert path == "/bucket/p/key"
    sent = {name.lower(): value for name, value in headers.items()}
    assert "Credential=test/" in sent["authorization"]
    assert "/eu-x/s3/" in sent["authorization"]
    assert "x-amz-security-token" not in sent
    assert len(sent["x-amz-content-sha256"]) == 64


@pytest.mark.parametrize("name", SERVERS)
def test_no_such_bucket(s3_server: Callable[[str], S3Server], name: str) -> None:
    store = s3(s3_server(name).endpoint_url, "not-made", credentials=TESTER)
    verbs = ["put", "get", "list"] + ["delete"] * (name != "versitygw")  # it says that all is deleted
    for verb in verbs:
        error = failure_of(lambda verb=verb: VERBS[verb](store))  # type: ignore[misc]
        assert type(error) is StoreError
        assert "NoSuchBucket" in error.message
        assert "make the bucket" in (error.hint or "")


@pytest.mark.parametrize("wrong", [("other", "test"), ("test", "other")], ids=["access", "secret"])
def test_wrong_credentials_are_no_missing_object(s3_bucket: Bucket, wrong: tuple[str, str]) -> None:
    server, bucket = s3_bucket("versitygw")  # the others look at no signature
    store = s3(server.endpoint_url, bucket, credentials=key_credentials(*wrong, None))
    for verb in ("put", "get", "list", "delete"):
        assert type(failure_of(lambda verb=verb: VERBS[verb](store))) is AccessDenied  # type: ignore[misc]


def test_another_region(s3_bucket: Bucket) -> None:
    server, bucket = s3_bucket("ministack")
    error = failure_of(lambda: s3(server.endpoint_url, bucket, region="eu-central-1").put("key", b""))
    assert type(error) is StoreError
    assert "region" in (error.hint or "")


@pytest.mark.parametrize("name", SERVERS)
def test_a_folder_made_in_a_console_is_no_object(s3_bucket: Bucket, name: str) -> None:
    server, bucket = s3_bucket(name)
    server.client.put_object(Bucket=bucket, Key="backup/", Body=b"")
    server.client.put_object(Bucket=bucket, Key="backup2/other", Body=b"")
    store = s3(server.endpoint_url, bucket, "backup", credentials=TESTER)
    store.put("key", b"")
    assert [info.key for info in store.list("")] == ["key"]


def test_credentials_of_a_session(s3_bucket: Bucket) -> None:
    server, bucket = s3_bucket("moto")
    store = open_store(f"s3://{bucket}/a", endpoint_url=server.endpoint_url, session=server.session())
    store.put("key", b"content")
    assert store.get("key") == b"content"
    assert store.url == f"s3://{bucket}/a"


def test_credentials_are_renewed(server: Told) -> None:
    class Credentials:
        access_key, secret_key, token = "first", "secret", "token"

        def get_frozen_credentials(self) -> Credentials:
            return self

    class Session:
        region_name = "eu-west-1"
        credentials = Credentials()

        def get_credentials(self) -> Credentials:
            return self.credentials

    server.answers = [(200, b"x")]
    store = open_store("s3://bucket", endpoint_url=server.endpoint_url, session=Session())
    store.get("key")
    headers = server.requests[0][2]
    assert "Credential=first/" in headers["authorization"]
    assert "/eu-west-1/" in headers["authorization"]
    assert headers["x-amz-security-token"] == "token"


def test_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    with pytest.raises(ConfigError, match="no AWS credentials"):
        open_store("s3://bucket")
    with pytest.raises(ConfigError, match="nobody"):
        chain_credentials("nobody")
    (tmp_path / "credentials").write_text("[nobody]\naws_access_key_id = a\naws_secret_access_key = b\n")
    assert open_store("s3://bucket", environ={"AWS_PROFILE": "nobody"}).url == "s3://bucket"


def test_a_store_does_not_outlive_a_fork(server: Told) -> None:
    server.answers = [(200, b"x")]
    store = s3(server.endpoint_url)
    assert store.get("key") == b"x"
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(5)  # without the check it hangs for ever, and deaf to handlers
        try:
            store.get("key")
        except MoraineError as error:
            os.write(writer, error.line().encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    assert b"forked" in os.read(reader, 1000)
    os.close(reader)
