"""The local store: durable, whatever dies; clear words, whatever the file system refuses."""

from __future__ import annotations

import errno
import os
import pickle
import resource
import signal
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from moraine.errors import (
    AccessDenied,
    MoraineError,
    ObjectExists,
    ObjectNotFound,
    ReadOnlyStore,
    StoreError,
    StoreFull,
    StoreUnavailable,
    StoreUnfit,
)
from moraine.stores import local_files
from moraine.stores.local import LocalStore

NOBODY = 65534
KEY = "packs/session/object"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root may drop its rights, others have none to drop")


def in_child(function: Callable[[], Any]) -> Any:
    """What a function returns or raises in a forked process; the number of the signal that killed it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            try:
                outcome = function()
            except MoraineError as error:
                outcome = error
            os.write(writer, pickle.dumps(outcome))
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    return pickle.loads(answer) if answer else -os.waitstatus_to_exitcode(status)


def temps(root: Path) -> list[str]:
    return os.listdir(root / ".tmp")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


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
