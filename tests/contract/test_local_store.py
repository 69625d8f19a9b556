"""The local store: durable and create-only, whatever dies and whatever the file system lacks."""

from __future__ import annotations

import errno
import os
import signal
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from forked import in_child
from moraine.errors import (
    ObjectExists,
    ObjectNotFound,
    StoreError,
    StoreUnfit,
)
from moraine.stores import local_files
from moraine.stores.local import LocalStore

KEY = "packs/session/object"


def temps(root: Path) -> list[str]:
    return os.listdir(root / ".tmp")


def die_at(nth: int, names: tuple[str, ...] = ("open", "write", "fsync", "link", "unlink", "mkdir", "close")) -> None:
    """Kill this process just before its nth call among these, counted over all of them."""
    left = nth

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return real(*arguments, **options)

        return call

    for name in names:
        setattr(os, name, dying(getattr(os, name)))


@pytest.mark.parametrize("fresh", [True, False])
def test_a_put_killed_anywhere_leaves_all_or_nothing(tmp_path: Path, fresh: bool) -> None:
    data = os.urandom(100_000)
    outcomes = []
    for nth in range(1000):
        root = tmp_path / str(nth)
        if not fresh:
            LocalStore(root).put("packs/session/other", b"")

        def put(nth: int = nth, root: Path = root) -> str:
            store = LocalStore(root)
            die_at(nth)
            store.put(KEY, data)
            return "done"

        outcome = in_child(put)
        store = LocalStore(root)
        listed = [info.key for info in store.list("packs/") if info.key == KEY]
        if listed:
            assert store.get(KEY) == data
            with pytest.raises(ObjectExists):
                store.put(KEY, b"another")
        else:
            store.put(KEY, data)
        assert store.get(KEY) == data
        outcomes.append(bool(listed))
        if outcome == "done":
            assert not temps(root)
            break
        assert outcome == signal.SIGKILL
    assert outcomes == sorted(outcomes)
    assert outcomes.count(False) > 5
    assert outcomes.count(True) > 3


def test_everything_is_synced_before_a_put_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[tuple[str, str]] = []
    real_fsync, real_link = os.fsync, os.link

    def fsync(handle: int) -> None:
        real_fsync(handle)
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        events.append(("sync", "temp" if path.parent.name == ".tmp" else str(path.relative_to(tmp_path))))

    def link(source: str, target: str) -> None:
        real_link(source, target)
        events.append(("link", str(Path(target).relative_to(tmp_path))))

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    store = LocalStore(tmp_path / "new/store")
    store.put("a/b/c", b"1")
    linked = events.index(("link", "new/store/a/b/c"))
    assert events.index(("sync", "temp")) < linked
    assert {("sync", "."), ("sync", "new")} <= set(events[:linked])
    assert {("sync", "new/store/a/b"), ("sync", "new/store/a"), ("sync", "new/store")} <= set(events[linked:])

    events.clear()
    store.put("a/b/d", b"2")
    assert events == [("sync", "temp"), ("link", "new/store/a/b/d"), ("sync", "new/store/a/b")]

    # A directory that another process made, perhaps just before it died, is synced up to the root, too.
    events.clear()
    LocalStore(tmp_path / "new/store").put("a/b/e", b"3")
    assert {("sync", "new/store/a/b"), ("sync", "new/store/a"), ("sync", "new/store")} <= set(events)

    # "It is there already" must be as durable as "it is written".
    events.clear()
    with pytest.raises(ObjectExists):
        store.put("a/b/c", b"4")
    assert events[-1] == ("sync", "new/store/a/b")


def test_old_strays_are_swept_by_the_next_writer(tmp_path: Path) -> None:
    LocalStore(tmp_path).put("a", b"")
    for name, age in (("old", 25 * 3600), ("young", 23 * 3600)):
        stray = tmp_path / ".tmp" / name
        stray.write_bytes(b"x")
        os.utime(stray, (stray.stat().st_mtime - age,) * 2)
    assert [info.key for info in LocalStore(tmp_path).list("")] == ["a"]
    assert len(temps(tmp_path)) == 2, "reading changes nothing"
    LocalStore(tmp_path).put("b", b"")
    assert temps(tmp_path) == ["young"]


def test_a_stray_of_an_earlier_process_of_this_number_is_no_obstacle(tmp_path: Path) -> None:
    LocalStore(tmp_path).put("a", b"")
    for number in range(5):
        (tmp_path / ".tmp" / f"{os.getpid()}-{number}").write_bytes(b"stray")
    LocalStore(tmp_path).put("b", b"content")
    assert LocalStore(tmp_path).get("b") == b"content"
    assert len(temps(tmp_path)) == 5


def test_objects_are_private_and_reading_makes_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    assert list(store.list("")) == []
    with pytest.raises(ObjectNotFound):
        store.get("a")
    store.delete("a")
    assert not (tmp_path / "store").exists()
    store.put("a/b", b"")
    assert stat.S_IMODE((tmp_path / "store/a/b").stat().st_mode) == 0o600
    assert {stat.S_IMODE((tmp_path / path).stat().st_mode) for path in ("store", "store/a", "store/.tmp")} == {0o700}


def test_foreign_files_are_not_listed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("a", b"")
    (tmp_path / "lost+found").mkdir(mode=0)
    (tmp_path / ".DS_Store").write_bytes(b"")
    (tmp_path / "ä").write_bytes(b"")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert [info.key for info in store.list("")] == ["a"]


def test_an_object_is_no_directory(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("a", b"")
    with pytest.raises(StoreError, match="Not a directory"):
        store.put("a/b", b"")
    store.put("d/e", b"")
    with pytest.raises(ObjectExists):
        store.put("d", b"")
    assert temps(tmp_path) == []


def test_without_hard_links_it_renames_and_still_never_replaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, target: str) -> None:
        raise OSError(errno.EPERM if os.path.isdir(os.path.dirname(target)) else errno.ENOENT, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    store = LocalStore(tmp_path)
    start = threading.Barrier(16)

    def race(number: int) -> bool:
        start.wait()
        try:
            store.put("new/raced", b"%d" % number)
        except ObjectExists:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        won = [number for number, winner in enumerate(pool.map(race, range(16))) if winner]
    assert len(won) == 1
    assert store.get("new/raced") == b"%d" % won[0]
    assert temps(tmp_path) == []

    monkeypatch.setattr(local_files, "_RENAME_NOREPLACE", 1 << 30)  # the kernel says EINVAL, as for FUSE without it
    with pytest.raises(StoreUnfit, match="neither hard links nor"):
        store.put("another", b"")
    assert temps(tmp_path) == []


def test_a_link_whose_answer_got_lost_is_a_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link

    def twice(source: str, target: str) -> None:
        real(source, target)
        real(source, target)

    monkeypatch.setattr(os, "link", twice)
    store = LocalStore(tmp_path)
    store.put("a", b"1")
    assert store.get("a") == b"1"
    monkeypatch.undo()
    with pytest.raises(ObjectExists):
        store.put("a", b"1")
