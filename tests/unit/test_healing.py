"""After a failed proof the next backup reads again what failed, and stores anew what lies damaged."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from compare import compare_trees
from moraine.errors import ProofFailed
from moraine.model.policy import Policy
from moraine.repository.index import Index
from moraine.repository.index_segments import compact, write_segment
from moraine.sources.posix_target import PosixTarget
from moraine.steps.check import check_repository
from moraine.steps.prove import prove
from moraine.steps.restore import Restored, execute_restore
from moraine.steps.restore_plan import plan_restore
from moraine.stores.memory import MemoryStore
from night import Clock, Night, make_policy, make_repository, open_repository


def flip(store: MemoryStore, key: str) -> None:
    data = bytearray(store.get(key))
    data[len(data) // 3] ^= 1
    store.delete(key)
    store.put(key, data)


class World:
    """A source, a store, and nights as they come."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.source = folder, folder / "source"
        (self.source / "deep").mkdir(parents=True)
        rng = random.Random(1)
        for number in range(20):
            (self.source / f"deep/file {number}").write_bytes(rng.randbytes(3000 + number))
        (self.source / "large").write_bytes(rng.randbytes(9 << 20))
        self.store, self.clock = MemoryStore(), Clock(datetime.now(UTC) + timedelta(days=1))  # long after the files
        make_repository(self.store, self.clock)
        self.policy: Policy = make_policy(self.source, prove={"sample_files": 50})

    def night(self) -> str:
        self.clock.advance(days=1)
        return (
            Night(lambda: self.store, self.source, self.policy, self.clock, run_id=f"at {self.clock()}").all().snapshot
        )

    def prove(self, snapshot: str) -> None:
        repository = open_repository(self.store)
        prove(repository, self.policy, snapshot, clock=self.clock, entropy=os.urandom, scratch=self.folder / "scratch")

    def restore(self, snapshot: str) -> Restored:
        repository, target = open_repository(self.store), PosixTarget(self.folder / snapshot)
        return execute_restore(
            plan_restore(repository, repository.snapshot(snapshot), target=target), repository, target
        )

    def packs(self) -> list[str]:
        return [info.key for info in self.store.list("packs/")]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize("damage", [flip, MemoryStore.delete])
def test_what_lies_damaged_is_stored_anew_and_old_snapshots_come_back_too(
    world: World, damage: Callable[[MemoryStore, str], None]
) -> None:
    first = world.night()
    for key in world.packs():
        damage(world.store, key)
    assert world.restore(first).exit_code == 50
    with pytest.raises(ProofFailed):
        world.prove(first)
    before = set(world.packs())
    second = world.night()
    assert set(world.packs()) - before, "nothing was stored anew"
    for snapshot in (second, first):
        assert world.restore(snapshot).exit_code == 0
        assert compare_trees(world.source, world.folder / snapshot) == []
    found = check_repository(open_repository(world.store), read_data=1.0, clock=world.clock)
    assert {problem["code"] for problem in found.problems} <= {"pack-damaged", "pack-missing"}
    assert all(not problem["snapshots"] for problem in found.problems), "nothing is lost any more"
    world.prove(second)
    third_packs = set(world.packs())
    world.night()
    assert set(world.packs()) == third_packs, "healed once is enough"


def test_without_a_failed_proof_a_night_trusts_the_index(world: World) -> None:
    world.night()
    before = world.packs()
    flip(world.store, before[0])
    (world.source / "again").write_bytes((world.source / "large").read_bytes())
    second = world.night()
    assert world.packs() == before
    assert world.restore(second).exit_code == 50


def test_only_what_failed_is_read_again(world: World) -> None:
    first = world.night()
    repository = open_repository(world.store)
    report = repository.save_report(f"drills/{first}/x.json", {"again": ["deep/file%203"]})
    repository.log.append("prove", {"snapshot": first, "report": report, "passed": False}, now=world.clock())
    world.clock.advance(days=1)
    night = Night(lambda: world.store, world.source, world.policy, world.clock, run_id="second")
    night.all()
    assert night.diffed and night.diffed.counts["rehash"] == 1 and night.diffed.counts["read_bytes"] == 3003


def test_the_newer_place_of_a_chunk_counts_before_and_after_compaction(world: World) -> None:
    world.night()
    repository = open_repository(world.store)
    keyring, store = repository.keyring, world.store
    old = repository.index.load(repository.index.segments[0])
    names = pa.array(["packs/new/place"] * old.num_rows).dictionary_encode()
    new = old.set_column(old.schema.get_field_index("pack"), old.schema.field("pack"), names)
    fresh = write_segment([new], key="index/fresh", store=store, keyring=keyring)
    index = Index(store, keyring, [*repository.index.segments, *fresh])
    merged = compact(index, index.segments, make_key=lambda: "index/merged", store=store, keyring=keyring)
    ids = old["id"].combine_chunks()
    late = Index(store, keyring, [repository.index.segments[0], *merged])  # compacted beside one of level 0
    assert set(index.locate(ids)["pack"].to_pylist()) == {"packs/new/place"}
    assert set(Index(store, keyring, merged).locate(ids)["pack"].to_pylist()) == {"packs/new/place"}
    assert set(late.locate(ids)["pack"].to_pylist()) == set(old["pack"].to_pylist())
