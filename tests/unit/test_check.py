"""Checks of real repositories: all is well, then every kind of damage, its code, and what it costs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from moraine.errors import ConfigError, StoreUnavailable
from moraine.repository import layout, tables
from moraine.repository.index_segments import write_segment
from moraine.repository.log import CHECKPOINT_EVERY
from moraine.repository.repository import Repository
from moraine.steps.check import Checked, check_repository
from moraine.stores.memory import MemoryStore
from night import Clock, Night, make_policy, make_repository, open_repository


class World:
    """A repository of three nights."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "source"
        self.store = MemoryStore()
        self.clock = Clock()
        make_repository(self.store, self.clock)
        (self.source / "docs").mkdir(parents=True)
        for number in range(20):
            (self.source / f"docs/small{number:02d}").write_bytes(os.urandom(2000 + number))
        (self.source / "large").write_bytes(os.urandom(6 << 20))
        (self.source / "empty").touch()
        (self.source / "link").symlink_to("large")
        self.snapshots = [self.backup()]
        (self.source / "docs/small00").write_bytes(b"changed")
        (self.source / "second").write_bytes(os.urandom(10_000))
        self.snapshots.append(self.backup())
        self.snapshots.append(self.backup())

    def backup(self) -> str:
        self.clock.advance(days=1)
        night = Night(
            lambda: self.store, self.source, make_policy(self.source), self.clock, run_id=f"night {self.clock()}"
        )
        return night.all().snapshot

    @property
    def repository(self) -> Repository:
        return open_repository(self.store)

    def check(self, read_data: float = 0.0, repository: Repository | None = None) -> Checked:
        return check_repository(repository or self.repository, read_data=read_data, clock=self.clock)

    def keys(self, prefix: str) -> list[str]:
        """In order of creation."""
        return [key for key in self.store._objects if key.startswith(prefix)]

    def flip(self, key: str, at: int = -1) -> None:
        """Turn one bit; in the middle when not said where."""
        data, time = self.store._objects[key]
        at = len(data) // 2 if at < 0 else at
        self.store._objects[key] = (data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :], time)

    def cut(self, key: str, size: int) -> None:
        data, time = self.store._objects[key]
        self.store._objects[key] = (data[:size], time)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def the_one(checked: Checked) -> dict[str, Any]:
    assert len(checked.problems) == 1, checked.problems
    assert checked.exit_code == 50
    return checked.problems[0]


def test_all_is_well(world: World) -> None:
    checked = world.check(1.0)
    assert checked.problems == []
    assert checked.notes == []
    assert checked.exit_code == 0
    counts = checked.counts
    assert counts["snapshots"] == 3
    assert counts["packs"] == counts["packs_read"] == len(world.keys("packs/"))
    assert counts["chunks_read"] == counts["indexed_chunks"] >= 22
    assert counts["bytes_read"] > 6 << 20
    assert counts["log_entries"] == 7
    json.dumps({**counts, "problems": checked.problems})


def test_a_share_is_read_and_another_day_another(world: World) -> None:
    for _ in range(6):
        (world.source / "more").write_bytes(os.urandom(1000))
        world.backup()
    packs = set(world.keys("packs/"))

    def read(share: float) -> set[str]:
        asked: set[str] = set()
        repository = open_repository(Watching(world.store, asked.add))
        assert world.check(share, repository).problems == []
        return asked & packs

    assert world.check(0).counts["packs_read"] == 0
    assert world.check(0.01).counts["packs_read"] == 1  # rounded up
    days = [world.check(0.4).counts["packs_read"] for _ in range(10) if not world.clock.advance(days=1)]
    assert set(days) == {ceil(0.4 * len(packs))}
    world.flip(min(packs), 150)  # inside the first frame: only reading it can tell
    found = [bool(world.check(0.4).problems) for _ in range(30) if not world.clock.advance(days=1)]
    assert 0 < sum(found) < 30
    world.flip(min(packs), 150)
    assert read(1) == packs


class Watching(MemoryStore):
    """Tells which objects are asked for."""

    def __init__(self, other: MemoryStore, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._objects, self._tell = other._objects, tell

    def get_range(self, key: str, start: int, length: int) -> bytes:
        self._tell(key)
        return super().get_range(key, start, length)


class TestLog:
    def test_an_old_entry_is_damaged(self, world: World) -> None:
        repository = world.repository
        world.flip(layout.log_entry(3))
        assert the_one(world.check(0, repository))["code"] == "log-damaged"

    def test_an_entry_is_gone_and_another_swapped(self, world: World) -> None:
        repository = world.repository
        world.store._objects[layout.log_entry(5)] = world.store._objects[layout.log_entry(6)]
        world.store.delete(layout.log_entry(2))
        found = {problem["object"]: problem["code"] for problem in world.check(0, repository).problems}
        assert found == {layout.log_entry(2): "log-missing", layout.log_entry(5): "log-forged"}

    def test_a_stranger_in_the_log(self, world: World) -> None:
        repository = world.repository
        world.store.put("log/stranger.json", b"{}")
        assert the_one(world.check(0, repository))["code"] == "log-damaged"

    def test_configuration_and_slots(self, world: World) -> None:
        repository = world.repository
        world.flip(layout.CONFIG, 10)
        world.flip(world.keys("keys/")[0])
        codes = [problem["code"] for problem in world.check(0, repository).problems]
        assert codes == ["config-damaged", "slot-damaged"]
        world.store.delete(world.keys("keys/")[0])
        world.store.delete(layout.CONFIG)
        codes = [problem["code"] for problem in world.check(0, repository).problems]
        assert codes == ["config-missing", "slot-missing"]

    def test_checkpoints(self, world: World) -> None:
        repository = world.repository
        while repository.state.number < CHECKPOINT_EVERY:
            repository.log.append("key-change", {}, now=world.clock())
        key = layout.checkpoint(CHECKPOINT_EVERY)
        assert world.check(0, repository).counts["checkpoints"] == 1
        assert world.check(0, repository).problems == []
        world.flip(key)
        assert the_one(world.check(0, repository))["code"] == "checkpoint-forged"


class TestSnapshots:
    def test_gone_damaged_and_swapped(self, world: World) -> None:
        repository = world.repository
        first, second, third = (layout.snapshot(snapshot) for snapshot in world.snapshots)
        world.store.delete(first)
        world.flip(second)
        world.store._objects[third] = world.store._objects[second]
        problems = world.check(1.0, repository).problems
        assert [(p["code"], p["snapshots"]) for p in problems] == [
            ("snapshot-missing", [world.snapshots[0]]),
            ("snapshot-forged", [world.snapshots[1]]),
            ("snapshot-forged", [world.snapshots[2]]),
        ]
        assert problems[0]["files"] == 22

    @pytest.mark.parametrize("how", ["missing", "damaged"])
    def test_manifest_objects(self, world: World, how: str) -> None:
        shard, delta, _ = sorted(world.keys("manifests/"), key=lambda key: "delta" in key)
        for key in (shard, delta):
            if how == "missing":
                world.store.delete(key)
            else:
                world.flip(key)
        base, later = world.check(1.0).problems
        assert (base["code"], base["object"], base["snapshots"]) == (f"manifest-{how}", shard, sorted(world.snapshots))
        assert base["paths"] == ["25 entries from the root on"]
        assert (later["code"], later["object"], later["snapshots"]) == (
            f"manifest-{how}",
            delta,
            sorted(world.snapshots[1:]),
        )


class TestIndex:
    @pytest.mark.parametrize("how", ["missing", "damaged"])
    def test_a_segment(self, world: World, how: str) -> None:
        segment = world.keys("index/")[1]
        if how == "missing":
            world.store.delete(segment)
        else:
            world.flip(segment)
        checked = world.check(1.0)
        index, chunks = checked.problems
        assert (index["code"], index["object"]) == (f"index-{how}", segment)
        assert chunks["code"] == "chunk-unknown"
        assert chunks["paths"] == ["second", "docs/small00"]
        assert chunks["snapshots"] == sorted(world.snapshots[1:])
        assert chunks["files"] == 4
        assert checked.counts["orphan_packs"] == 1

    def test_chunks_that_only_hidden_rows_name_are_not_missed(self, world: World) -> None:
        """The first snapshot's small00 is in a row that the others hide: without the first it matters to nobody."""
        repository = world.repository
        table = repository.index.load(repository.index.segments[0])
        old = repository.manifest(repository.snapshot(world.snapshots[0])).table(under=b"docs/small00")["digest"][0]
        rows = [row for row in range(table.num_rows) if table["id"][row] != old]
        self.exchange(repository, table.take(rows))
        assert the_one(world.check(0, repository))["snapshots"] == [world.snapshots[0]]
        del repository.state.snapshots[world.snapshots[0]]
        assert world.check(0, repository).problems == []

    def test_a_place_that_is_wrong(self, world: World) -> None:
        repository = world.repository
        table = repository.index.load(repository.index.segments[0])
        offsets = table["offset"].to_pylist()
        large = repository.manifest(repository.snapshot("latest")).table(under=b"large")["chunks"][0].as_py()
        row = table["id"].to_pylist().index(large[1])
        offsets[row] += 1
        at, field = table.schema.get_field_index("offset"), table.schema.field("offset")
        self.exchange(repository, table.set_column(at, field, pa.array(offsets, field.type)))
        problem = the_one(world.check(0, repository))
        assert (problem["code"], problem["paths"], len(problem["snapshots"])) == ("index-wrong", ["large"], 3)

    def test_a_segment_may_name_a_pack_of_which_it_has_no_row(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As earlier versions wrote them."""
        repository = world.repository
        table = repository.index.load(repository.index.segments[0])
        names = table["pack"].unify_dictionaries().combine_chunks()
        more = pa.concat_arrays([pa.array(["packs/of/nothing"]), names.dictionary])
        codes = pa.array(names.indices.to_numpy() + 1, pa.int32())
        at = table.schema.get_field_index("pack")
        table = table.set_column(at, table.schema.field("pack"), pa.DictionaryArray.from_arrays(codes, more))
        with monkeypatch.context() as patched:
            patched.setattr(tables, "compacted", lambda table: table)
            self.exchange(repository, table)
        written = repository.index.load(next(iter(repository.state.segments.values())))["pack"]
        assert "packs/of/nothing" in written.chunk(0).dictionary.to_pylist()
        assert world.check(1.0, repository).problems == []

    def exchange(self, repository: Repository, rows: pa.Table) -> None:
        """Put another segment in the place of the first."""
        key = layout.segment("FORGED")
        [forged] = write_segment([rows], key=key, store=repository.store, keyring=repository.keyring)
        first, *others = repository.state.segments.values()
        repository.state.segments = {s.key: s for s in (replace(forged, level=first.level), *others)}


class TestPacks:
    def test_a_pack_is_gone(self, world: World) -> None:
        first, second = world.keys("packs/")
        world.store.delete(second)
        problem = the_one(world.check())
        assert (problem["code"], problem["object"]) == ("pack-missing", second)
        assert problem["snapshots"] == sorted(world.snapshots[1:])
        assert problem["paths"] == ["second", "docs/small00"]
        world.store.delete(first)
        problem = world.check().problems[0]
        assert (problem["object"], problem["snapshots"]) == (first, sorted(world.snapshots))
        assert {"large", "docs/small00", "docs/small19"} <= set(problem["paths"])
        assert problem["files"] == 21 + 20 + 20

    def test_a_bit_in_a_frame_costs_that_frame(self, world: World) -> None:
        pack = world.keys("packs/")[0]
        world.flip(pack)
        assert world.check(0).problems == []
        problem = the_one(world.check(1.0))
        assert (problem["code"], problem["object"], problem["paths"]) == ("pack-damaged", pack, ["large"])
        assert problem["snapshots"] == sorted(world.snapshots)
        assert problem["files"] == 3

    @pytest.mark.parametrize("part", ["trailer", "header", "footer"])
    def test_structure(self, world: World, part: str) -> None:
        pack = world.keys("packs/")[0]
        size = len(world.store.get(pack))
        world.flip(pack, {"trailer": size - 60, "header": 3, "footer": size - 1}[part])
        problem = the_one(world.check())
        assert (problem["code"], problem["object"]) == ("pack-damaged", pack)
        assert problem["paths"] == []  # every frame can still be read by the index

    def test_a_cut_pack_costs_what_was_cut_off(self, world: World) -> None:
        pack = world.keys("packs/")[0]
        world.cut(pack, len(world.store.get(pack)) // 2)
        problem = the_one(world.check())
        assert problem["code"] == "pack-damaged"
        assert "large" in problem["paths"]
        assert len(problem["snapshots"]) == 3

    def test_orphans_are_notes(self, world: World) -> None:
        world.store.put("packs/01ARZ3NDEKTSV4RRFFQ69G5FAV/01ARZ3NDEKTSV4RRFFQ69G5FAV", b"left by a run that died")
        checked = world.check(1.0)
        assert checked.exit_code == 0
        assert [note["code"] for note in checked.notes] == ["orphan-packs"]
        assert checked.counts["orphan_packs"] == 1

    def test_with_a_key_that_only_writes(self, world: World) -> None:
        repository = world.repository
        blind = replace(repository.keyring, private_keys={})
        limited = Repository(repository.store, repository.config, blind, os.urandom)
        limited.log.open()
        checked = world.check(1.0, limited)
        assert checked.problems == []
        assert [note["code"] for note in checked.notes] == ["packs-locked"]
        world.store.delete(world.keys("packs/")[1])
        assert the_one(world.check(1.0, limited))["code"] == "pack-missing"

    def test_trouble_with_the_store_is_no_damage(self, world: World) -> None:
        class Tired(MemoryStore):
            def get_range(self, key: str, start: int, length: int) -> bytes:
                raise StoreUnavailable("not now")

        store = Tired()
        store._objects = world.store._objects
        with pytest.raises(StoreUnavailable):
            world.check(0, open_repository(store))


def test_everything_at_once_is_all_reported(world: World) -> None:
    repository = world.repository
    first, second = world.keys("packs/")
    world.flip(first)
    world.store.delete(second)
    world.flip(layout.log_entry(1))
    world.store.delete(layout.snapshot(world.snapshots[0]))
    world.flip(next(key for key in world.keys("manifests/") if "delta" in key))
    codes = {problem["code"]: problem for problem in world.check(1.0, repository).problems}
    assert set(codes) == {"log-damaged", "snapshot-missing", "manifest-damaged", "pack-damaged", "pack-missing"}
    assert codes["pack-damaged"]["paths"] == ["large"]
    assert codes["pack-damaged"]["snapshots"] == sorted(world.snapshots[1:])


def test_plain_repositories(tmp_path: Path) -> None:
    store, clock = MemoryStore(), Clock()
    Repository.create(store, passphrase=None, now=clock(), entropy=os.urandom)
    checked = check_repository(open_repository(store), read_data=1.0, clock=clock)
    assert checked.problems == []
    assert checked.counts["packs"] == 0


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_shares(world: World, share: float) -> None:
    with pytest.raises(ConfigError):
        world.check(share)
