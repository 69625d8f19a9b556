"""The local store on disks that are full, read-only, slow or not ours: clear errors, nothing half written."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from forked import in_child
from moraine.errors import (
    AccessDenied,
    MoraineError,
    ReadOnlyStore,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from moraine.stores.local import LocalStore

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root may drop its rights, others have none to drop")


def temps(root: Path) -> list[str]:
    return os.listdir(root / ".tmp")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@as_root
def test_who_may_read_but_not_write(open_folder: Path) -> None:
    store = LocalStore(open_folder / "store")
    store.put("a/b", b"content")
    for folder, _, files in os.walk(open_folder):
        os.chmod(folder, 0o755)
        for name in files:
            os.chmod(os.path.join(folder, name), 0o644)

    def as_nobody(call: Callable[[LocalStore], Any]) -> Any:
        def run() -> Any:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            return call(LocalStore(open_folder / "store"))

        return in_child(run)

    assert as_nobody(lambda store: store.get("a/b")) == b"content"
    assert as_nobody(lambda store: [info.key for info in store.list("")]) == ["a/b"]
    assert type(as_nobody(lambda store: store.put("a/c", b""))) is ReadOnlyStore
    assert type(as_nobody(lambda store: store.delete("a/b"))) is ReadOnlyStore
    os.chmod(open_folder / "store/a/b", 0o600)
    assert type(as_nobody(lambda store: store.get("a/b"))) is AccessDenied
    os.chmod(open_folder / "store/a", 0o700)
    assert type(as_nobody(lambda store: list(store.list("a/")))) is AccessDenied
    os.chmod(open_folder / "store", 0o700)
    for call in (
        lambda s: s.get("a/b"),
        lambda s: s.head("a/b"),
        lambda s: list(s.list("")),
        lambda s: s.put("c", b""),
    ):
        assert type(as_nobody(call)) is AccessDenied
    assert store.get("a/b") == b"content"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user may not mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(small_disk: Path) -> None:
    store = LocalStore(small_disk / "store")
    store.put("first", bytes(400_000))
    with pytest.raises(StoreFull) as raised:
        store.put("second", bytes(800_000))
    assert isinstance(raised.value.__cause__, OSError)
    assert temps(small_disk / "store") == [], "what was half written must not take the space"
    assert [info.key for info in store.list("")] == ["first"]
    store.put("third", bytes(400_000))


def test_a_read_only_disk(small_disk: Path) -> None:
    LocalStore(small_disk / "store").put("a", b"content")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    store = LocalStore(small_disk / "store")
    assert store.get("a") == b"content"
    with pytest.raises(ReadOnlyStore):
        store.put("b", b"")
    with pytest.raises(ReadOnlyStore):
        store.delete("a")


def test_a_quota(tmp_path: Path) -> None:
    def put() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        LocalStore(tmp_path).put("a", bytes(2 << 20))

    assert type(in_child(put)) is StoreFull
    assert temps(tmp_path) == []


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.ENOSPC, StoreFull), (errno.EDQUOT, StoreFull), (errno.EROFS, ReadOnlyStore), (errno.EIO, StoreError),
        (errno.ESTALE, StoreUnavailable), (errno.ETIMEDOUT, StoreUnavailable), (errno.EMFILE, StoreUnavailable),
    ],
)  # fmt: skip
def test_what_the_system_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, expected: type[MoraineError]
) -> None:
    def fail(handle: int) -> None:
        raise OSError(code, os.strerror(code))

    store = LocalStore(tmp_path)
    store.put("a", b"")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(MoraineError) as raised:
        store.put("b", b"")
    monkeypatch.undo()
    assert type(raised.value) is expected
    assert os.strerror(code) in raised.value.message
    assert [info.key for info in store.list("")] == ["a"]
    assert temps(tmp_path) == []


def test_out_of_handles_is_passing(tmp_path: Path) -> None:
    LocalStore(tmp_path).put("a", b"")

    def get() -> Any:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
        return LocalStore(tmp_path).get("a")

    assert type(in_child(get)) is StoreUnavailable
