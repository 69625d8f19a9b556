"""The copy step over real trees: what is read, what is stored, and what is said of files that do not hold still."""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from copying import Copying, MeddlingSource, file_bytes, later, noise
from moraine.errors import SourceDenied, SourceUnmounted, StoreFull
from moraine.model.entry import Op, State
from moraine.repository.unlock import Chunking
from moraine.steps import copy
from moraine.stores.base import Buffer
from moraine.stores.memory import MemoryStore
from night import Clock, Night, make_policy, make_repository

MIB = 1 << 20
SMALL = Chunking(small=64 << 10, bundle=128 << 10, pack=MIB)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    return root


def empty_digest(work: Copying) -> bytes:
    return work.repository.keyring.chunk_id(b"")


def contents(work: Copying, copied: copy.Copied) -> dict[bytes, bytes]:
    chunks = work.stored(copied)
    rows = work.rows(copied)
    return {n: file_bytes(row, chunks, empty_digest(work)) for n, row in rows.items() if row["digest"]}


# --- content ----------------------------------------------------------------------------------------------------------


def test_files_of_all_sizes_come_back(tree: Path) -> None:
    sizes = [0, 1, 4096, MIB - 1, MIB, MIB + 1, 3 * MIB, 9 * MIB, 13 * MIB + 5]
    data = {b"%02d" % number: noise(size, number) for number, size in enumerate(sizes)}
    data |= {b"text": b"words " * 700_000, b"zeros": bytes(5 * MIB), b"lake": b"PAR1" + noise(17 * MIB)}
    for name, content in data.items():
        (tree / name.decode()).write_bytes(content)
    work = Copying(tree)
    copied = work.copy()
    assert contents(work, copied) == data
    assert copied.files == len(data)
    assert copied.bytes == sum(map(len, data.values()))
    assert (copied.racy, copied.vanished, copied.denied, copied.silent) == (0, 0, 0, 0)
    rows = work.rows(copied)
    lake = [len(chunk) for chunk in map(work.stored(copied).get, rows[b"lake"]["chunks"]) if chunk]
    assert lake == [8 * MIB, 8 * MIB, MIB + 4]
    assert rows[b"03"]["chunks"] is None
    assert {row["state"] for row in rows.values()} == {State.OK}
    assert {row["session"] for row in rows.values()} == {work.run.session.id}


def test_digests(tree: Path) -> None:
    (tree / "small").write_bytes(b"content")
    (tree / "large").write_bytes(noise(8 * MIB))
    (tree / "empty").write_bytes(b"")
    work = Copying(tree)
    rows = work.rows(work.copy())
    chunk_id = work.repository.keyring.chunk_id
    assert rows[b"small"]["digest"] == chunk_id(b"content")
    assert rows[b"empty"]["digest"] == chunk_id(b"")
    assert rows[b"large"]["digest"] == chunk_id(b"moraine digest v1" + b"".join(rows[b"large"]["chunks"]))
    assert rows[b""]["digest"] is None


def test_a_large_file_is_read_once(tree: Path) -> None:
    (tree / "large").write_bytes(noise(30 * MIB))
    source = MeddlingSource(tree)
    work = Copying(tree, source=source)
    work.copy()
    assert source.opened == [b"large"]


def test_other_entries_have_attributes_only(tree: Path) -> None:
    (tree / "dir").mkdir()
    (tree / "link").symlink_to("somewhere/else")
    os.mkfifo(tree / "fifo")
    os.setxattr(tree / "dir", "user.note", b"hello")
    work = Copying(tree)
    rows = work.rows(work.copy())
    assert rows[b"link"]["target"] == b"somewhere/else"
    assert b"hello" in rows[b"dir"]["xattrs"]
    assert rows[b"fifo"]["owner"] == rows[b"dir"]["owner"] is not None
    assert all(row["digest"] is None and row["chunks"] is None for row in rows.values())
    assert list(work.store.list("packs/")) == []


def test_sparse_files_store_their_data_only(tree: Path) -> None:
    with open(tree / "sparse", "wb") as file:
        file.seek(2 * MIB)
        file.write(noise(8192))
        file.truncate(64 * MIB)
    (tree / "hole").touch()
    os.truncate(tree / "hole", 3 * MIB)
    work = Copying(tree)
    copied = work.copy()
    rows = work.rows(copied)
    row = rows[b"sparse"]
    pairs = list(struct.iter_unpack("<qq", row["extents"]))
    assert row["size"] == 64 * MIB
    assert sum(length for _, length in pairs) == len(contents(work, copied)[b"sparse"]) < MIB
    assert pairs[0][0] == 2 * MIB
    assert rows[b"hole"]["extents"] == b""
    assert rows[b"hole"]["digest"] == empty_digest(work)
    assert rows[b"hole"]["size"] == 3 * MIB


def test_hard_links_are_read_once(tree: Path) -> None:
    (tree / "a").write_bytes(noise(2 * MIB))
    for name in "bcd":
        os.link(tree / "a", tree / name)
    source = MeddlingSource(tree)
    work = Copying(tree, source=source)
    copied = work.copy()
    assert source.opened == [b"a"]
    rows = work.rows(copied)
    first = rows[b"a"]
    same = ("digest", "chunks", "size", "owner", "state", "mtime", "session")
    assert all(rows[name][column] == first[column] for name in (b"b", b"c", b"d") for column in same)
    assert copied.bytes == 2 * MIB


# --- dedup ------------------------------------------------------------------------------------------------------------


def test_equal_content_is_stored_once(tree: Path) -> None:
    for number in range(5):
        (tree / f"small{number}").write_bytes(b"the same")
        (tree / f"large{number}").write_bytes(noise(6 * MIB))
    (tree / "other").write_bytes(b"another")
    work = Copying(tree)
    copied = work.copy()
    assert copied.added_bytes == 6 * MIB + len(b"the same") + len(b"another")
    assert len(contents(work, copied)) == 11
    assert work.locations(copied).num_rows == len(set(work.locations(copied)["id"].to_pylist()))


def test_what_the_repository_has_is_not_stored_again(tree: Path) -> None:
    for number in range(60):
        (tree / f"f{number:02d}").write_bytes(noise(700 + number, number))
    (tree / "large").write_bytes(noise(7 * MIB))
    store = MemoryStore()
    clock = Clock(later())
    make_repository(store, clock)
    Night(lambda: store, tree, make_policy(tree), clock).all()
    for number in range(0, 60, 7):
        (tree / f"f{number:02d}").write_bytes(noise(900, 1000 + number))
    os.utime(tree / "large")
    for number in range(60):
        os.utime(tree / f"f{number:02d}")
    work = Copying(tree, store=store, clock=clock)
    copied = work.copy()
    assert copied.files == 61
    assert copied.added_bytes == 9 * 900
    changed = {b"f%02d" % number: noise(900, 1000 + number) for number in range(0, 60, 7)}
    stored = work.stored(copied)
    assert {name: stored[work.rows(copied)[name]["digest"]] for name in changed} == changed


# --- files that do not hold still -------------------------------------------------------------------------------------


def write_over(path: Path, data: bytes) -> Callable[[bytes], None]:
    def hook(name: bytes) -> None:
        if name == path.name.encode():
            path.write_bytes(data)

    return hook


def test_a_file_that_changes_once_is_read_again(tree: Path) -> None:
    (tree / "busy").write_bytes(noise(3 * MIB, 1))
    source = MeddlingSource(tree)
    work = Copying(tree, source=source)
    change = write_over(tree / "busy", noise(2 * MIB, 2))
    source.before_finish = lambda name: change(name) if len(source.opened) == 1 else None
    copied = work.copy()
    assert source.opened == [b"busy"] * 2
    assert contents(work, copied)[b"busy"] == noise(2 * MIB, 2)
    row = work.rows(copied)[b"busy"]
    found = os.stat(tree / "busy")
    assert row["state"] == State.RACY  # not as it was listed
    assert (row["size"], row["mtime"] * 10**9 + row["mtime_ns"]) == (2 * MIB, found.st_mtime_ns)
    assert (row["inode"], row["ctime"] * 10**9 + row["ctime_ns"]) == (found.st_ino, found.st_ctime_ns)


@pytest.mark.parametrize("size", [5000, 3 * MIB])
def test_a_file_that_always_changes_is_stored_as_read_last(tree: Path, size: int) -> None:
    (tree / "busy").write_bytes(noise(size))
    source = MeddlingSource(tree)
    work = Copying(tree, source=source)

    def append(name: bytes) -> None:
        with open(tree / "busy", "ab") as file:
            file.write(b"more")

    source.before_finish = append
    copied = work.copy()
    assert len(source.opened) == 4
    row = work.rows(copied)[b"busy"]
    assert row["state"] == State.RACY
    assert contents(work, copied)[b"busy"] == noise(size) + b"more" * 3
    assert row["size"] == size + 12
    assert copied.racy == 1


@pytest.mark.parametrize("size", [5000, 9 * MIB])
def test_a_file_cut_off_while_it_is_read_is_never_padded(tree: Path, size: int) -> None:
    data = noise(size)
    source = MeddlingSource(tree)
    (tree / "busy").write_bytes(data)
    work = Copying(tree, source=source)
    source.before_open = write_over(tree / "busy", data)
    source.before_read = lambda name: os.truncate(tree / "busy", 1500)
    copied = work.copy()
    row = work.rows(copied)[b"busy"]
    assert contents(work, copied)[b"busy"] == data[:1500]
    assert row["size"] == 1500
    assert row["state"] == State.RACY


@pytest.mark.parametrize("size", [5000, 9 * MIB])
def test_a_short_read_is_never_taken_for_the_whole_file(tree: Path, size: int) -> None:
    (tree / "f").write_bytes(noise(size))
    source = MeddlingSource(tree, ends_after=4000)
    work = Copying(tree, source=source)
    copied = work.copy()
    row = work.rows(copied)[b"f"]
    assert (len(source.opened), row["state"], row["size"]) == (4, State.RACY, 4000)
    assert contents(work, copied)[b"f"] == noise(size)[:4000]


def test_what_a_growing_file_had_when_it_was_opened_is_stored(tree: Path) -> None:
    (tree / "log").write_bytes(b"line\n" * 10)
    source = MeddlingSource(tree)
    work = Copying(tree, source=source)

    def grow(name: bytes) -> None:
        with open(tree / "log", "ab") as file:
            file.write(noise(2 * MIB))

    source.before_read = grow
    copied = work.copy()
    row = work.rows(copied)[b"log"]
    assert row["state"] == State.RACY
    assert row["size"] == len(contents(work, copied)[b"log"]) == 50 + 6 * MIB  # opened four times, grown three


def test_a_file_replaced_since_it_was_listed_is_stored_as_it_is_now(tree: Path) -> None:
    (tree / "f").write_bytes(b"old")
    work = Copying(tree)
    (tree / "g").write_bytes(b"brand new")
    (tree / "g").replace(tree / "f")
    copied = work.copy()
    row = work.rows(copied)[b"f"]
    assert contents(work, copied)[b"f"] == b"brand new"
    assert (row["state"], row["size"], row["inode"]) == (State.RACY, 9, os.stat(tree / "f").st_ino)


def test_a_file_changed_just_before_it_was_opened_is_racy(tree: Path) -> None:
    (tree / "f").write_bytes(b"fresh")
    changed = os.stat(tree / "f").st_ctime

    def state(offset: float, window: str) -> int:
        at = changed + offset
        work = Copying(tree, parts={"racy_window": window}, clock=lambda: later().fromtimestamp(at, later().tzinfo))
        return int(work.rows(work.copy())[b"f"]["state"])

    assert state(0.9, "1s") == State.RACY
    assert state(1.1, "1s") == State.OK
    assert state(9.0, "10s") == State.RACY
    assert state(-100, "1s") == State.RACY


def test_vanished_and_denied_entries_become_rows(tree: Path) -> None:
    for name in ("stays", "goes", "secret", "broken", "late"):
        (tree / name).write_bytes(name.encode())
    (tree / "dir").mkdir()
    source = MeddlingSource(tree)
    work = Copying(tree, source=source)
    (tree / "goes").unlink()
    (tree / "dir").rmdir()

    def refuse(name: bytes) -> None:
        if name == b"secret":
            raise SourceDenied("no permission")

    def fail(name: bytes) -> None:
        if name == b"broken":
            raise MoraineErrorOfTheDisk("the disk failed")

    source.before_open, source.before_read = refuse, fail
    copied = work.copy()
    rows = work.rows(copied)
    states = {name: row["state"] for name, row in rows.items()}
    assert states == {
        b"": State.OK,
        b"stays": State.OK,
        b"late": State.OK,
        b"goes": State.VANISHED,
        b"dir": State.VANISHED,
        b"secret": State.DENIED,
        b"broken": State.DENIED,
    }
    assert all(rows[name]["digest"] is None for name in (b"goes", b"secret", b"broken", b"dir"))
    assert (copied.vanished, copied.denied) == (2, 2)
    assert contents(work, copied) == {b"stays": b"stays", b"late": b"late"}


class MoraineErrorOfTheDisk(SourceDenied.__bases__[0]):  # type: ignore[misc]
    """Some other SourceError."""


def test_a_lost_source_ends_the_step(tree: Path) -> None:
    (tree / "f").write_bytes(b"content")
    source = MeddlingSource(tree)
    work = Copying(tree, source=source)

    def lose(name: bytes) -> None:
        raise SourceUnmounted("gone")

    source.before_open = lose
    with pytest.raises(SourceUnmounted):
        work.copy()


# --- rows whose content is known --------------------------------------------------------------------------------------


def test_metadata_rows_keep_their_content_and_get_fresh_attributes(tree: Path) -> None:
    (tree / "f").write_bytes(b"content")
    work = Copying(tree)
    old = {"digest": bytes([7]) * 32, "chunks": [bytes([8]) * 32, bytes([9]) * 32], "extents": bytes(16)}
    columns: dict[str, Any] = {name: [None, value] for name, value in old.items()}
    columns |= {"op": [Op.METADATA] * 2, "read": [False] * 2, "owner": ["nobody-we-know"] * 2, "session": ["older"] * 2}
    work.replace(**columns)
    copied = work.copy()
    row = work.rows(copied)[b"f"]
    assert {name: row[name] for name in old} == old
    assert row["owner"] == "root" or row["owner"] != "nobody-we-know"
    assert row["session"] == work.run.session.id
    assert copied.files == 0


def test_a_denied_file_keeps_content_that_still_holds(tree: Path) -> None:
    (tree / "f").write_bytes(b"content")
    source = MeddlingSource(tree)
    work = Copying(tree, source=source)

    def refuse(name: bytes) -> None:
        raise SourceDenied("no permission")

    source.before_attributes = refuse
    work.replace(digest=[None, bytes([7]) * 32], op=[Op.METADATA] * 2, read=[False] * 2)
    rows = work.rows(work.copy())
    assert (rows[b"f"]["state"], rows[b"f"]["digest"]) == (State.DENIED, bytes([7]) * 32)
    source.before_open = refuse
    work.replace(digest=[None, bytes([7]) * 32], op=[Op.MODIFIED] * 2, read=[False, True])
    rows = work.rows(work.copy())
    assert (rows[b"f"]["state"], rows[b"f"]["digest"]) == (State.DENIED, None)


def test_rehash_tells_silent_changes_from_good_files(tree: Path) -> None:
    (tree / "good").write_bytes(b"content")
    (tree / "rotten").write_bytes(b"c0ntent")
    work = Copying(tree)
    digest = work.repository.keyring.chunk_id(b"content")
    work.replace(
        digest=[None, digest, digest],
        op=[Op.METADATA, Op.REHASH, Op.REHASH],
        session=["older"] * 3,
        owner=["as before"] * 3,
    )
    copied = work.copy()
    rows = work.rows(copied)
    assert copied.silent == 1
    assert (rows[b"good"]["digest"], rows[b"good"]["session"], rows[b"good"]["owner"]) == (digest, "older", "as before")
    assert rows[b"rotten"]["digest"] == work.repository.keyring.chunk_id(b"c0ntent")
    assert rows[b"rotten"]["session"] == work.run.session.id


def test_rows_of_other_shards_are_left_alone(tree: Path) -> None:
    for name in "abcd":
        (tree / name).write_bytes(name.encode())
    work = Copying(tree)
    work.replace(shard=[0, 0, -1, 3, 0])
    assert set(work.rows(work.copy())) == {b"", b"a", b"d"}


# --- failures and retries ---------------------------------------------------------------------------------------------


class FillingStore(MemoryStore):
    """Has room for so many packs."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.pack_puts = 0

    def put(self, key: str, data: Buffer) -> None:
        if key.startswith("packs/"):
            if self.pack_puts >= self.room:
                raise StoreFull("no space left")
            self.pack_puts += 1
        super().put(key, data)


@pytest.fixture
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packs of 1 MiB, bundles of 128 KiB, a journal entry for every 20 rows."""
    monkeypatch.setattr("moraine.repository.unlock.Chunking", lambda **given: SMALL)
    monkeypatch.setattr("moraine.steps.copy_rows.SLICE_ROWS", 10)
    monkeypatch.setattr(copy, "JOURNAL_ROWS", 20)


def grow_tree(tree: Path, files: int = 100, size: int = 50_000) -> dict[bytes, bytes]:
    data = {b"f%03d" % number: noise(size, number) for number in range(files)}
    for name, content in data.items():
        (tree / name.decode()).write_bytes(content)
    return data


@pytest.mark.usefixtures("small_packs")
@pytest.mark.parametrize("room", [0, 1, 3])
def test_a_full_store_ends_the_step_at_once_and_cleanly(tree: Path, room: int) -> None:
    grow_tree(tree)
    (tree / "large").write_bytes(noise(20 * MIB))
    source = MeddlingSource(tree)
    work = Copying(tree, store=FillingStore(room), source=source)
    before = threading.active_count()
    started = time.monotonic()
    with pytest.raises(StoreFull):
        work.copy()
    assert threading.active_count() == before
    assert time.monotonic() - started < 30
    assert b"large" not in source.opened


@pytest.mark.usefixtures("small_packs")
def test_a_retry_reads_and_uploads_only_what_is_missing(tree: Path) -> None:
    data = grow_tree(tree)
    store = FillingStore(3)
    source = MeddlingSource(tree)
    work = Copying(tree, store=store, source=source)
    with pytest.raises(StoreFull):
        work.copy()
    survived = {info.key for info in store.list("packs/")}
    store.room, source.opened = 1000, []
    copied = work.copy()
    assert contents(work, copied) == data
    assert set(work.rows(copied)) == {b"", *data}
    assert 0 < len(source.opened) < 100  # journalled rows are not read again
    assert copied.files == 100
    assert copied.added_bytes == sum(map(len, data.values()))  # nothing is stored twice
    assert survived <= {pack["key"] for pack in work.outcome(copied)["packs"]}
    assert {pack["key"] for pack in work.outcome(copied)["packs"]} == {info.key for info in store.list("packs/")}


@pytest.mark.usefixtures("small_packs")
def test_a_retry_does_not_rest_on_packs_that_are_gone(tree: Path) -> None:
    data = grow_tree(tree)
    store = FillingStore(3)
    work = Copying(tree, store=store)
    with pytest.raises(StoreFull):
        work.copy()
    store.delete(next(store.list("packs/")).key)
    store.room = 1000
    assert contents(work, work.copy()) == data


@pytest.mark.usefixtures("small_packs")
def test_packs_of_a_dead_attempt_are_adopted_without_any_journal(tree: Path) -> None:
    data = grow_tree(tree, files=60)
    store = FillingStore(1000)
    work = Copying(tree, store=store)
    work.copy()
    for info in list(store.list("sessions/")):
        if "/copy/" in info.key:
            store.delete(info.key)
    puts = store.pack_puts
    copied = work.copy()
    assert store.pack_puts == puts
    assert contents(work, copied) == data
    assert copied.stored_bytes == sum(info.size for info in store.list("packs/"))


@pytest.mark.usefixtures("small_packs")
def test_packs_of_other_shards_are_not_adopted(tree: Path) -> None:
    grow_tree(tree, files=30)
    store = FillingStore(1000)
    work = Copying(tree, store=store)
    first = work.copy()
    table = next(work.run.work.load_pieces(work.changes))
    work.replace(shard=[1] * table.num_rows)
    moved = work.run.work.save_pieces("changes/moved", [(1, next(work.run.work.load_pieces(work.changes)))])
    second = copy.copy_shard(work.run, moved, 1)
    keys = [{pack["key"] for pack in work.outcome(copied)["packs"]} for copied in (first, second)]
    assert keys[1]
    assert not keys[0] & keys[1]


@pytest.mark.usefixtures("small_packs")
def test_a_finished_shard_that_is_asked_for_again_reads_everything_again(tree: Path) -> None:
    grow_tree(tree, files=50)
    store = FillingStore(1000)
    source = MeddlingSource(tree)
    work = Copying(tree, store=store, source=source)
    work.copy()
    (tree / "f001").write_bytes(b"changed since")
    source.opened, puts = [], store.pack_puts
    copied = work.copy()
    assert source.opened.count(b"f001") == 2  # what is not as it was listed is read once more
    assert len(source.opened) == 51 and len(set(source.opened)) == 50
    assert store.pack_puts == puts + 1
    assert contents(work, copied)[b"f001"] == b"changed since"


@pytest.mark.usefixtures("small_packs")
def test_two_attempts_at_once_both_come_to_an_end(tree: Path) -> None:
    data = grow_tree(tree)
    work = Copying(tree, source=MeddlingSource(tree))
    found: list[Any] = []

    def attempt() -> None:
        found.append(copy.copy_shard(replace(work.run, source=MeddlingSource(tree)), work.changes, 0))

    threads = [threading.Thread(target=attempt) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for copied in found:
        assert set(work.rows(copied)) == {b"", *data}
        assert contents(work, copied) == data


def test_an_empty_shard_has_an_outcome(tree: Path) -> None:
    work = Copying(tree)
    work.replace(shard=[-1])
    copied = work.copy()
    assert copied.files == copied.stored_bytes == 0
    assert work.outcome(copied)["packs"] == work.outcome(copied)["results"] == []


def test_rows_come_in_the_order_of_the_change_set(tree: Path) -> None:
    for number in range(30):
        (tree / f"d{number % 3}").mkdir(exist_ok=True)
        (tree / f"d{number % 3}" / f"f{number}").write_bytes(b"x")
    work = Copying(tree)
    copied = work.copy()
    (changes,) = work.run.work.load_pieces(work.changes)
    results = pa.concat_tables([work.run.work.load_table(ref) for ref in work.outcome(copied)["results"]])
    assert results["name"].to_pylist() == changes["name"].to_pylist()
    assert results["dir"].to_pylist() == changes["dir"].to_pylist()
