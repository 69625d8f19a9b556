"""A memory store with a bound: what is beyond it lies in a file that nobody can find or leave behind."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from forked import in_child
from moraine.errors import ObjectNotFound, StoreFull
from moraine.stores import memory
from moraine.stores.memory import MemoryStore


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_what_is_beyond_the_bound_is_in_a_file_without_a_name(folder: Path) -> None:
    store = MemoryStore(most=1000)
    content = {f"{number}": os.urandom(300) for number in range(10)}
    for key, data in content.items():
        store.put(key, data)
    assert store._file is not None
    assert os.fstat(store._file.fileno()).st_size == 7 * 300
    assert os.fstat(store._file.fileno()).st_nlink == 0
    assert not list(folder.iterdir())
    assert {key: store.get(key) for key in content} == content
    assert [info.size for info in store.list("")] == [300] * 10
    assert store.head("9").size == 300
    assert store.get_range("9", 290, 100) == content["9"][290:]
    assert store.get_range("9", 400, 100) == b""
    store.delete("9")
    with pytest.raises(ObjectNotFound):
        store.get("9")


def test_few_bytes_need_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", None)
    store = MemoryStore(most=1000)
    store.put("a", bytes(1000))
    assert store.get("a") == bytes(1000)


def test_a_full_disk_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int, data: bytes) -> None:
        os.write(handle, data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = MemoryStore(most=0)
    store.put("before", b"x" * 20)
    with monkeypatch.context() as patch:
        patch.setattr(memory, "write_all", full)
        with pytest.raises(StoreFull, match=str(folder)):
            store.put("key", b"y" * 20)
    with pytest.raises(ObjectNotFound):
        store.head("key")
    store.put("key", b"z" * 20)
    assert (store.get("before"), store.get("key")) == (b"x" * 20, b"z" * 20)


def test_a_forked_process_has_a_file_of_its_own(folder: Path) -> None:
    store = MemoryStore(most=10)
    store.put("before", b"b" * 20)

    def work() -> dict[str, bytes]:
        store.apart()
        store.put("here", b"h" * 20)
        assert store.get("before") == b"b" * 20
        return dict(store.news())

    assert in_child(work) == {"here": b"h" * 20}
    assert store._file is not None
    assert os.fstat(store._file.fileno()).st_size == 20
    store.put("after", b"a" * 20)
    assert [store.get(key) for key in ("before", "after")] == [b"b" * 20, b"a" * 20]
