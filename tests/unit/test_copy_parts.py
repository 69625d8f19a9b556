"""A copy that is killed inside a large file goes on inside it: nothing is stored twice, little is read twice."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from copying import Copying, MeddlingFile, MeddlingSource, file_bytes, later, noise
from moraine.errors import MoraineError
from moraine.model.entry import State
from moraine.repository.objects import Objects
from moraine.repository.unlock import Chunking
from moraine.repository.work import WorkFiles
from moraine.sources.base import OpenFile, Reader, Stamp
from moraine.steps import copy, copy_parts
from moraine.steps.backup import Holder, backup
from moraine.steps.commit import Committed
from moraine.steps.copy_parts import FileParts
from moraine.stores.fault import Crash, Fault, FaultStore
from moraine.stores.fault import Effect as On
from moraine.stores.memory import MemoryStore
from night import make_policy, make_repository, open_repository
from restored import assert_restores

MIB = 1 << 20
PART = 2 * MIB
SMALL = Chunking(small=64 << 10, bundle=128 << 10, minimum=1 << 16, average=1 << 18, maximum=MIB, pack=MIB)
Meddle = Callable[[memoryview], None]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    return root


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts and journal entries of 2 MiB, packs of 1 MiB, reads of 1 MiB."""
    monkeypatch.setattr("moraine.repository.unlock.Chunking", lambda **given: SMALL)
    monkeypatch.setattr(copy_parts, "PART_BYTES", PART)
    monkeypatch.setattr(copy, "JOURNAL_BYTES", PART)
    made = copy.Chunking
    monkeypatch.setattr(copy, "Chunking", lambda **sizes: made(**sizes, span=MIB))


@dataclass
class CountedFile(MeddlingFile):
    """Counts what is read of it."""

    source: Any = None

    def readinto(self, view: memoryview) -> int:
        count = super().readinto(view)
        self.source.read += count
        self.source.meddle(view[:count])
        return count


@dataclass
class CountedSource(MeddlingSource):
    """Counts the bytes that are read of all files; `meddle` may change them."""

    read: int = 0
    meddle: Meddle = lambda view: None

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        with self.inner.reader() as reader:
            self._reader = reader
            yield self  # type: ignore[misc]

    def open(self, directory: bytes, name: bytes, listed: Stamp | None = None) -> OpenFile:
        file = self._reader.open(directory, name, listed)
        return CountedFile(file, lambda: self.before_read(name), lambda: None, float("inf"), self)


def begin(tree: Path, store: FaultStore | None = None) -> tuple[Copying, CountedSource]:
    source = CountedSource(tree)
    return Copying(tree, store=store or FaultStore(MemoryStore()), source=source), source


def die_at(work: Copying, source: CountedSource, count: int) -> copy.Copied | None:
    """An attempt that dies once it has read so many bytes; what it copied where no more had to be read."""

    def die(name: bytes) -> None:
        if source.read >= count:
            raise Crash(name)

    source.before_read = die
    try:
        return work.copy()
    except Crash:
        source.read = 0
        return None
    finally:
        source.before_read = lambda name: None


def kill_at(work: Copying, source: CountedSource, count: int) -> None:
    """An attempt that must die once it has read so many bytes."""
    assert die_at(work, source, count) is None, "it had to read less than it was to die at"


def require_whole(work: Copying, copied: copy.Copied, data: dict[bytes, bytes]) -> None:
    chunks, empty = work.stored(copied), work.repository.keyring.chunk_id(b"")
    rows = work.rows(copied)
    assert {name: file_bytes(rows[name], chunks, empty) for name in data} == data
    assert {rows[name]["state"] for name in data} == {State.OK}


def pack_bytes(work: Copying) -> int:
    return sum(info.size for info in work.store.list("packs/"))


@pytest.mark.parametrize("head", [b"", b"PAR1", b"QFI\xfb"])
def test_a_retry_goes_on_inside_a_file(tree: Path, head: bytes) -> None:
    data = {b"large": head + noise(90 * MIB if head == b"PAR1" else 30 * MIB)}
    (tree / "large").write_bytes(data[b"large"])
    work, source = begin(tree)
    size = len(data[b"large"])
    kill_at(work, source, size * 2 // 3)
    copied = work.copy()
    require_whole(work, copied, data)
    longest = {b"PAR1": SMALL.fixed_lake, b"": SMALL.maximum}.get(head, SMALL.fixed_disk)
    assert source.read <= size // 3 + 2 * max(PART, longest)
    assert pack_bytes(work) < size * 1.01
    source.read = 0
    again = work.copy()  # from the beginning, as the shard was finished
    assert source.read == size
    assert work.rows(again)[b"large"]["chunks"] == work.rows(copied)[b"large"]["chunks"]


def test_killed_again_and_again(tree: Path) -> None:
    data = {name: noise(size, size) for name, size in ((b"a", 9 * MIB), (b"b", 50_000), (b"c", 20 * MIB))}
    for name, content in data.items():
        (tree / name.decode()).write_bytes(content)
    work, source = begin(tree)
    # how far reading was ahead of storing when it died, and so how often it can die, is the threads' affair
    copied, kills = None, 0
    while copied is None:
        assert kills < 100, "no attempt comes nearer to the end"
        copied = die_at(work, source, 4 * MIB + kills * 1000)
        kills += copied is None
    require_whole(work, copied, data)
    total = sum(map(len, data.values()))
    assert kills >= 3
    assert source.read < total - 7 * MIB
    assert copied.added_bytes == total
    assert pack_bytes(work) < total * 1.01


def test_a_crash_at_every_store_call(tree: Path) -> None:
    data = {b"large": noise(8 * MIB)}
    (tree / "large").write_bytes(data[b"large"])
    count = calls_of_a_copy(tree)
    assert count > 20
    for after in (False, True):
        for number in range(1, count + 1):
            work, source = begin(tree)
            store = work.store
            assert isinstance(store, FaultStore)
            dying = FaultStore(store.inner, crash_at=number, crash="after" if after else "before")
            run = dying_run(work, dying)
            with suppress(Crash, MoraineError):
                copy.copy_shard(run, work.changes, 0)
            died_at, source.read = source.read, 0
            copied = work.copy()
            require_whole(work, copied, data)
            if not any("outcome" in call.key for call in dying.calls):
                assert source.read <= 8 * MIB - died_at + 2 * PART + MIB, number
            assert pack_bytes(work) < 8.1 * MIB


def calls_of_a_copy(tree: Path) -> int:
    work, _ = begin(tree)
    store = work.store
    assert isinstance(store, FaultStore)
    before = len(store.calls)
    work.copy()
    return len(store.calls) - before


def dying_run(work: Copying, store: FaultStore) -> Any:
    repository = open_repository(store.inner)
    repository.store = store
    repository.objects = Objects(store)
    files = WorkFiles(store, repository.keyring, work.run.session.id, os.urandom)
    return replace(work.run, repository=repository, work=files)


def test_a_file_that_was_changed_is_read_from_its_beginning(tree: Path) -> None:
    (tree / "large").write_bytes(noise(10 * MIB))
    work, source = begin(tree)
    kill_at(work, source, 7 * MIB)
    with open(tree / "large", "r+b") as file:
        file.write(b"other")
    copied = work.copy()
    assert source.read == 10 * MIB
    row = work.rows(copied)[b"large"]
    assert file_bytes(row, work.stored(copied), b"") == (tree / "large").read_bytes()
    assert row["state"] == State.RACY  # it is not the one that was listed


def test_chunks_that_are_gone_are_read_again(tree: Path) -> None:
    data = {b"large": noise(10 * MIB)}
    (tree / "large").write_bytes(data[b"large"])
    work, source = begin(tree)
    kill_at(work, source, 8 * MIB)
    packs = [info.key for info in work.store.list("packs/")]
    work.store.delete(packs[3])
    copied = work.copy()
    require_whole(work, copied, data)
    assert 2 * MIB < source.read <= 10 * MIB  # which part the pack belongs to is the threads' choice


def test_a_sparse_file_goes_on_behind_its_holes(tree: Path) -> None:
    with open(tree / "sparse", "wb") as file:
        for number in range(6):
            file.seek(number * 64 * MIB)
            file.write(noise(2 * MIB, number))
    work, source = begin(tree)
    kill_at(work, source, 8 * MIB)
    copied = work.copy()
    expected = b"".join(noise(2 * MIB, number) for number in range(6))
    assert file_bytes(work.rows(copied)[b"sparse"], work.stored(copied), b"").replace(bytes(4096), b"") == expected
    assert source.read <= 4 * MIB + 2 * PART


def test_a_finished_shard_reads_large_files_again_too(tree: Path) -> None:
    (tree / "large").write_bytes(noise(10 * MIB))
    work, source = begin(tree)
    work.copy()
    source.read = 0
    work.copy()
    assert source.read == 10 * MIB


def test_a_file_that_was_racy_when_it_was_begun_stays_so(tree: Path) -> None:
    (tree / "large").write_bytes(noise(10 * MIB))
    work, source = begin(tree)
    changed = os.stat(tree / "large").st_mtime
    now = [work.clock().fromtimestamp(changed + 0.001, work.clock().tzinfo)]
    work.run.clock = lambda: now[0]
    kill_at(work, source, 7 * MIB)
    now[0] = work.clock()
    assert work.rows(work.copy())[b"large"]["state"] == State.RACY


def test_a_command_that_lost_its_working_files_goes_on_inside_a_file_too(tree: Path) -> None:
    (tree / "large").write_bytes(noise(12 * MIB))
    store, source = MemoryStore(), CountedSource(tree)
    make_repository(store, later)

    def run() -> Committed:
        return backup(
            open_repository(store),
            make_policy(tree),
            source,  # type: ignore[arg-type]
            clock=later,
            entropy=os.urandom,
            holder=Holder("here", "process", lambda mark: False),
            work=MemoryStore(),
        )

    def die(name: bytes) -> None:
        if source.read >= 8 * MIB:
            raise Crash(name)

    source.before_read = die
    with pytest.raises(Crash):
        run()
    source.before_read, source.read = lambda name: None, 0
    committed = run()
    assert source.read <= 4 * MIB + 2 * PART
    assert list(store.list("sessions/")) == []
    repository = open_repository(store)
    assert len({record.session for record in repository.state.snapshots.values()}) == 1
    assert_restores(repository, committed.snapshot, tree)


def test_two_attempts_that_read_different_bytes(tree: Path) -> None:
    """The second one is not believed, nor does it fail: its file counts as racy and is read again the next night."""
    (tree / "large").write_bytes(noise(10 * MIB))
    work, source = begin(tree)
    kill_at(work, source, 7 * MIB)
    store = work.store
    assert isinstance(store, FaultStore)
    parts = {info.key: store.get(info.key) for info in store.list("sessions/") if "/parts/" in info.key}
    assert len(parts) == 3

    def flip(view: memoryview) -> None:
        view[:1] = bytes([view[0] ^ 1])

    source.meddle = flip
    store.faults.append(Fault(On.FLIP, "get", "*/parts/*", times=1))
    with pytest.raises(MoraineError):  # a part that was damaged is not passed over in silence
        work.copy()
    for info in list(store.list("packs/")):
        store.delete(info.key)  # so that it has to begin anew
    row = work.rows(work.copy())[b"large"]
    assert row["state"] == State.RACY
    assert {key: store.get(key) for key in parts} == parts


def test_a_put_is_idempotent_and_another_checksum_is_refused(tree: Path) -> None:
    work, _ = begin(tree)
    saves: list[int] = []

    def attempt() -> FileParts:
        return FileParts(work.run.work, "file", bytes(32), 5, lambda: saves.append(1))

    ids = [bytes([number]) * 32 for number in range(8)]
    first, twin, other, later = attempt(), attempt(), attempt(), attempt()
    ends = [MIB * (number + 1) for number in range(8)]
    first.add(ids[:5], ends[:5])
    assert (first.end, len(saves)) == (4 * MIB, 2)
    keys = [info.key for info in work.store.list("sessions/") if "/parts/" in info.key]
    assert [key[-11:-5] for key in keys] == ["000000", "000001"]
    twin.add(ids, ends)  # the same parts however they come
    assert (twin.end, twin.ids, twin.racy_from) == (8 * MIB, ids, 5)
    other.add([ids[0], *ids[2:]], ends[:7])
    assert (other.end, other.ids) == (0, [ids[0], *ids[2:]])
    assert other.racy_from < 0
    later.resume(lambda chunks: True)
    assert (later.end, later.ids) == (8 * MIB, ids)
    late = attempt()
    late.resume(lambda chunks: ids[3] not in chunks)
    assert (late.end, late.ids) == (2 * MIB, ids[:2])
