"""The command line on a target in S3."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from buckets import expected_of_tree, objects, of_tree, uploads
from command_line import Line, spawn
from servers import S3Server, told

Aws = tuple[S3Server, str]


@pytest.fixture
def aws(bare: Line, s3_bucket: Callable[[str], Aws], monkeypatch: pytest.MonkeyPatch) -> Aws:
    server, bucket = s3_bucket("moto")
    for name, value in server.credentials.items():
        monkeypatch.setenv(name, value)
    bare("repo", "init")
    return server, bucket


def test_a_bucket_comes_back_beside_itself(bare: Line, aws: Aws) -> None:
    server, bucket = aws
    for key in ("raw/a//b", "raw/c", "raw/c/d", "raw/e/"):
        server.client.put_object(Bucket=bucket, Key=key, Body=key.encode(), Metadata={"k": key.replace("/", "-")})
    bare("backup", f"s3://{bucket}/raw", "--source-endpoint-url", server.endpoint_url)
    place = ["latest", "--to", f"s3://{bucket}/back", "--endpoint-url", server.endpoint_url]
    assert "4 files with" in bare("restore", *place, "--dry-run")
    assert objects(server.client, bucket, "back/") == {}
    done = bare.json("restore", *place, "--verify")
    assert (done["files"], done["verified"], done["exit_code"]) == (4, 4, 0)
    assert objects(server.client, bucket, "back/") == objects(server.client, bucket, "raw/")
    server.client.put_object(Bucket=bucket, Key="back/extra", Body=b"")
    assert bare.json("restore", *place, "--delete")["deleted"] == 1


def test_a_tree_becomes_objects(bare: Line, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    server, bucket = aws
    (bare.source / "nothing in it").mkdir()
    (bare.source / "link").symlink_to("a.txt")
    bare("backup", str(bare.source))
    place = ["latest", "--to", f"s3://{bucket}", "--to-endpoint-url", server.endpoint_url]
    bare("restore", *place)
    assert "directory-left-out: nothing in it: is empty" in bare.err
    assert of_tree(server.client, bucket) == expected_of_tree(bare.source)
    bare("restore", *place, "--directory-markers", "--storage-class", "STANDARD_IA", "--overwrite")
    assert bare.err == ""
    assert of_tree(server.client, bucket) == expected_of_tree(bare.source, markers=True)
    assert server.client.head_object(Bucket=bucket, Key="deep/")["StorageClass"] == "STANDARD_IA"


@pytest.mark.slow
def test_killed_and_gone_on_with(bare: Line, aws: Aws) -> None:
    server, bucket = aws
    for number in range(3):
        (bare.source / f"big{number}").write_bytes(os.urandom(60 << 20))
    bare("backup", str(bare.source))
    words = ["restore", "latest", "--to", f"s3://{bucket}", "--to-endpoint-url", server.endpoint_url]
    process = spawn(*words, environ=bare.environ)
    deadline = time.monotonic() + 60
    while not (left := uploads(server.client, bucket)) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert left, "it was over before it could be killed"
    assert uploads(server.client, bucket)
    bare(*words, "--verify")
    assert uploads(server.client, bucket) == []
    assert of_tree(server.client, bucket) == expected_of_tree(bare.source)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--to", "s3://"], 10, "a target in S3 is s3://bucket/prefix"),
        (["--to", "s3://key:secret@bucket/x"], 10, "a target in S3 is s3://bucket/prefix"),
        (["--to", "s3://no-such-bucket-here"], 60, "there is no bucket no-such-bucket-here"),
        (["--to", "out", "--storage-class", "GLACIER"], 10, "are for buckets"),
        (["--to", "s3://{bucket}", "--owners", "name"], 10, "a bucket keeps owners by number"),
        (["--to", "s3://{bucket}", "--storage-class", "NO_SUCH"], 10, "InvalidStorageClass"),
    ],
)
def test_mistakes(bare: Line, aws: Aws, words: list[str], code: int, message: str) -> None:
    bare("backup", str(bare.source))
    words = [word.format(bucket=aws[1]) for word in words]
    bare("restore", "latest", *words, "--to-endpoint-url", aws[0].endpoint_url, code=code)
    assert message in bare.err
    assert "secret" not in bare.err


@pytest.mark.parametrize(
    ("status", "error", "code", "message"),
    [
        (403, "AccessDenied", 31, "allow s3:ListBucket"),
        (403, "InvalidAccessKeyId", 31, "credentials"),
        (400, "AuthorizationHeaderMalformed", 60, "in words"),
    ],
)
def test_what_a_server_refuses(bare: Line, aws: Aws, status: int, error: str, code: int, message: str) -> None:
    bare("backup", str(bare.source))
    with told() as server:
        server.error(status, error)
        bare("restore", "latest", "--to", "s3://bucket", "--to-endpoint-url", server.endpoint_url, code=code)
    assert message in bare.err


@pytest.mark.parametrize(
    ("place", "rules", "code"), [("repo/x", [], 10), ("", ["--delete"], 10), ("", [], 0), ("report", ["--delete"], 0)]
)
def test_a_repository_is_not_in_the_way(bare: Line, aws: Aws, place: str, rules: list[str], code: int) -> None:
    server, bucket = aws
    repository = ["--repo", f"s3://{bucket}/repo", "--endpoint-url", server.endpoint_url]
    repository += ["--passphrase-file", str(bare.secret)]
    bare("repo", "init", *repository, common=False)
    bare("backup", str(bare.source), *repository, common=False)
    bare("restore", "latest", "--to", f"s3://{bucket}/{place}", *rules, *repository, common=False, code=code)
    bare("check", *repository, common=False)
