"""The command line on a source in S3."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from command_line import Line
from moraine.cli.backup import _inside
from servers import S3Server


@pytest.fixture
def aws(s3_bucket: Callable[[str], tuple[S3Server, str]], monkeypatch: pytest.MonkeyPatch) -> tuple[S3Server, str]:
    server, bucket = s3_bucket("moto")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    for name, value in server.credentials.items():
        monkeypatch.setenv(name, value)
    server.client.put_object(Bucket=bucket, Key="raw/a//b", Body=b"odd")
    server.client.put_object(Bucket=bucket, Key="raw/c.tmp", Body=b"no")
    return server, bucket


def test_backup_and_restore_of_a_prefix(bare: Line, aws: tuple[S3Server, str]) -> None:
    server, bucket = aws
    bare("repo", "init")
    place = ["--source-endpoint-url", server.endpoint_url, "--source-region", "us-east-1"]
    found = bare.json("backup", f"s3://{bucket}/raw", *place, "--exclude", "*.tmp")
    assert (found["policy"], found["files"], found["exit_code"]) == ("raw", 1, 0)
    assert bare.json("snapshots")[0]["source"] == f"s3://{bucket}/raw"
    bare("restore", "latest", "--to", str(bare.folder / "out"))
    assert (bare.folder / "out/a/%empty/b").read_text() == "odd"


def test_a_policy_file_and_what_cannot_be_read(
    bare: Line, aws: tuple[S3Server, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, bucket = aws
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint_url)
    server.client.put_object(Bucket=bucket, Key="raw/cold", Body=b"x", StorageClass="GLACIER")
    limits = "limits: {unreadable_share: 100%}\n"
    file = bare.folder / "p.yaml"
    file.write_text(f"policy: lake\nsource: {{kind: s3, bucket: {bucket}}}\nrepository: {{url: repo}}\n{limits}")
    bare("repo", "init")
    assert "1 entry could not be read" in bare("backup", "--policy", str(file), code=3)
    assert "1 object in storage class GLACIER or DEEP_ARCHIVE cannot be read" in bare.err
    assert f"everything under s3://{bucket}" in bare("policy", "explain", str(file), common=False)
    assert "in   raw/x" in bare("policy", "explain-path", str(file), "raw/x", common=False)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["s3://"], 10, "a source in S3 is s3://bucket/prefix"),
        (["s3://key:secret@bucket/x"], 10, "a source in S3 is s3://bucket/prefix"),
        (["s3://bucket", "--one-file-system"], 10, "are for directories"),
        (["s3://no-such-bucket-here"], 20, "there is no bucket no-such-bucket-here"),
    ],
)
def test_mistakes(
    bare: Line,
    aws: tuple[S3Server, str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws[0].endpoint_url)
    bare("backup", *words, code=code)
    assert message in bare.err
    assert "secret" not in bare.err


def test_a_repository_inside_the_source_is_noted() -> None:
    assert _inside("s3://lake", "s3://lake/backups")
    assert not _inside("s3://lake/raw", "s3://lake/raw-backups")
    assert not _inside("s3://lake", "/srv/lake")
