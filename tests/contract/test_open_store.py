"""Addresses of stores, and what opening one must not do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from moraine.errors import (
    ConfigError,
    MoraineError,
)
from moraine.stores.local import LocalStore
from moraine.stores.open import open_store


def test_addresses(tmp_path: Path) -> None:
    for url in (str(tmp_path), f"file://{tmp_path}", f"file://localhost{tmp_path}"):
        store = open_store(url)
        assert isinstance(store, LocalStore)
        assert store.url == str(tmp_path)
    assert open_store(f"file://{tmp_path}/a%20b").url == f"{tmp_path}/a b"
    name = f"memory://{tmp_path.name}"
    open_store(name).put("key", b"content")
    assert open_store(name).get("key") == b"content"
    assert open_store(name).url == name
    environ = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "very secret"}
    for url, expected in {"s3://b": "s3://b", "s3://b/": "s3://b", "s3://b/some/prefix/": "s3://b/some/prefix"}.items():
        assert open_store(url, environ=environ).url == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "~/backup",
        "gs://bucket",
        "s3://",
        "s3:///prefix",
        "s3://key:secret@bucket/x",
        "s3://b/x?y=z",
        "file://host/x",
    ],
)
def test_addresses_that_cannot_be(url: str) -> None:
    with pytest.raises(ConfigError) as raised:
        open_store(url, environ={"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"})
    assert raised.value.hint
    assert "secret" not in raised.value.message


def test_a_missing_certificate_is_a_matter_of_configuration() -> None:
    environ = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_CA_BUNDLE": "/not/there"}
    with pytest.raises(ConfigError, match="AWS_CA_BUNDLE"):
        open_store("s3://bucket", environ=environ)


def test_a_remote_store_is_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    with pytest.raises(MoraineError) as raised:
        open_store("s3://bucket", environ=environ, patience=0.3).get("key")
    assert raised.value.context["attempts"] > 1


def test_a_local_store_imports_no_sdk(tmp_path: Path) -> None:
    code = (
        "import sys; from moraine.stores.open import open_store\n"
        "store = open_store(sys.argv[1]); store.put('a/b', b'x'); assert store.get('a/b') == b'x'\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'boto3', 'botocore', 'obstore', 'pyarrow', 'airflow'}))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False,
                          env={"PYTHONPATH": str(Path(__file__).parents[2] / "include")})  # fmt: skip
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
