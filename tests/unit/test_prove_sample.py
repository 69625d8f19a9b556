"""Sampled restores inside a proof, over real backups: what comes back wrong is found, and nothing is left behind."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from blake3 import blake3

from moraine.errors import ProofFailed, RestoreError
from moraine.model.policy import Policy
from moraine.proof.rehash import content_digest, stored_spans
from moraine.proof.sample import COLUMNS, Sampler, Stratum, seed_of
from moraine.repository.repository import Repository
from moraine.steps import prove_sample as sample_step
from moraine.steps.prove import Proven, prove
from moraine.stores.memory import MemoryStore
from nasty import make_nasty_tree
from night import Clock, Night, make_policy, make_repository, open_repository
from rows import manifest


def backup(store: MemoryStore, source: Path, policy: Policy, clock: Clock) -> str:
    """One night; the snapshot's id."""
    return Night(lambda: store, source, policy, clock, run_id=f"night {clock()}").all().snapshot


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "deep/er").mkdir(parents=True)
    rng = random.Random(1)
    for number in range(30):
        (folder / f"deep/er/file {number:02d}").write_bytes(rng.randbytes(1000 + number))
    (folder / "large").write_bytes(rng.randbytes(9 << 20))
    (folder / "empty").touch()
    with open(folder / "sparse", "wb") as file:
        file.seek(3 << 20)
        file.write(rng.randbytes(1 << 16))
        file.truncate(8 << 20)
    return folder


Proof = Callable[..., Proven]
World = tuple[MemoryStore, str, Policy, Proof]


@pytest.fixture
def world(source: Path, tmp_path: Path) -> World:
    """A repository with one snapshot, and a way to prove it as a new process would."""
    store, clock = MemoryStore(), Clock()
    make_repository(store, clock)
    policy = make_policy(source, prove={"sample_files": 40})
    snapshot = backup(store, source, policy, clock)

    def run(rules: Policy = policy, snapshot: str = snapshot) -> Proven:
        repository = open_repository(store)
        return prove(repository, rules, snapshot, clock=clock, entropy=os.urandom, scratch=tmp_path / "scratch")

    return store, snapshot, policy, run


def report_of(store: MemoryStore, key: str) -> dict[str, Any]:
    found: dict[str, Any] = open_repository(store).load_report(key)
    return found


def test_every_file_of_a_small_snapshot_comes_back(world: World, tmp_path: Path) -> None:
    store, snapshot, _, run = world
    proven = run()
    assert proven.sampled_files == 32 and proven.sampled_bytes == sum(1000 + n for n in range(30)) + (17 << 20)
    sample = report_of(store, proven.report)["sample"]
    assert {entry["result"] for entry in sample["files"]} == {"equal"}
    assert {entry["path"] for entry in sample["files"]} >= {"large", "sparse", "deep/er/file 00"}
    assert sample["population"] == {"files": 32, "bytes": proven.sampled_bytes, "too_large": 0}
    assert not any("not in the sample" in text for text in proven.not_proven)
    assert open_repository(store).state.snapshots[snapshot].proven is not None
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_sample_stays_within_its_bounds_and_says_what_it_left_out(world: World, source: Path) -> None:
    store, _, _, run = world
    rules = make_policy(source, prove={"sample_files": 5, "sample_bytes": "1MiB"})
    first, second = run(rules), run(rules)
    assert first.sampled_files == 5 and first.sampled_bytes <= 1 << 20
    one, two = (report_of(store, proven.report)["sample"] for proven in (first, second))
    assert one == two and one["population"]["too_large"] == 2
    left_out = "; ".join(first.not_proven)
    assert "27 files" in left_out and "2 files larger" in left_out
    assert run(make_policy(source, prove={"sample_files": 0})).sampled_files == 0


def flip(store: MemoryStore, key: str) -> None:
    data = bytearray(store.get(key))
    data[len(data) // 3] ^= 1
    store.delete(key)
    store.put(key, data)


@pytest.mark.parametrize("damage", [flip, MemoryStore.delete])
def test_a_damaged_or_missing_pack_fails_the_proof_and_names_files_and_pack(
    world: World, tmp_path: Path, damage: Callable[[MemoryStore, str], None]
) -> None:
    store, snapshot, _, run = world
    (pack,) = [info.key for info in store.list("packs/")]
    damage(store, pack)
    with pytest.raises(ProofFailed, match=f"sampled files did not come back as they were: .*{pack}") as failure:
        run()
    assert failure.value.context["rows"]
    report = report_of(store, failure.value.context["report"])
    bad = [entry for entry in report["sample"]["files"] if entry["result"] != "equal"]
    assert [entry["path"] for entry in bad][:20] == failure.value.context["rows"]
    assert all(pack in entry["result"] for entry in bad)
    record = open_repository(store).state.snapshots[snapshot]
    assert record.failed is not None and record.proven is None
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("name", ["large", "sparse", "deep/er/file 07"])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_a_wrong_copy_is_found(world: World, monkeypatch: pytest.MonkeyPatch, name: str, harm: str) -> None:
    restore = sample_step.execute_restore

    def harmed(plan: Any, repository: Repository, target: Any, **options: Any) -> Any:
        done = restore(plan, repository, target, **options)
        path = Path(target.url) / name
        data = bytearray(path.read_bytes())
        data[-1 if name != "sparse" else (3 << 20) + 5] ^= 1
        path.unlink()
        if harm != "remove":
            path.write_bytes(data if harm == "flip" else data[:-1])
        return done

    monkeypatch.setattr(sample_step, "execute_restore", harmed)
    with pytest.raises(ProofFailed, match="1 of 32 sampled files") as failure:
        world[3]()
    assert failure.value.context["rows"] == [name]


def test_a_full_scratch_says_nothing_about_the_snapshot(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store, snapshot, _, run = world

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sample_step, "execute_restore", full)
    with pytest.raises(RestoreError, match="No space left"):
        run()
    record = open_repository(store).state.snapshots[snapshot]
    assert record.failed is None and record.proven is None
    assert not list(store.list("reports/")) and list((tmp_path / "scratch").iterdir()) == []


def test_a_nasty_tree_is_proven_and_new_files_come_first(tmp_path: Path) -> None:
    source, store = tmp_path / "nasty", MemoryStore()
    clock = Clock(datetime.now(UTC) + timedelta(hours=1))  # the tree must not be racy on the second night
    make_nasty_tree(source, as_root=os.geteuid() == 0)
    make_repository(store, clock)
    policy = make_policy(source, prove={"sample_files": 200})
    snapshot = backup(store, source, policy, clock)
    repository = open_repository(store)
    scratch = tmp_path / "scratch"
    first = prove(repository, policy, snapshot, clock=clock, entropy=os.urandom, scratch=scratch)
    assert first.sampled_files > 40 and first.rows == repository.snapshot(snapshot).rows
    clock.advance(days=1)
    for number in range(7):
        (source / f"new {number}").write_text(f"tonight {number}")
    second = backup(store, source, policy, clock)
    repository = open_repository(store)
    policy = make_policy(source, prove={"sample_files": 10})
    proven = prove(repository, policy, second, clock=clock, entropy=os.urandom, scratch=scratch)
    strata = [entry["stratum"] for entry in report_of(store, proven.report)["sample"]["files"]]
    assert [strata.count(name) for name in ("new, small", "old, small", "old, large")] == [6, 2, 2]
    assert list(scratch.iterdir()) == []


def test_a_writer_only_host_proves_the_manifest_and_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store, snapshot, policy, _ = world
    repository = open_repository(store)
    repository.keyring.private_keys.clear()
    proven = prove(repository, policy, snapshot, clock=Clock(), entropy=os.urandom, scratch=tmp_path)
    assert proven.sampled_files == 0 and "does not read content" in proven.not_proven[0]


def test_a_sample_does_not_depend_on_windows_and_covers_all_strata() -> None:
    entries = {
        b"%s/%04d" % (b"new" if n % 3 else b"old", n): {
            "size": 5000 if n % 7 == 0 else 10, "digest": bytes(32), "session": "S" if n % 3 else "R",
            "state": int(n % 5 == 4),
        }
        for n in range(2000)
    }  # fmt: skip
    table = manifest(entries).select(COLUMNS)

    def draw(window: int, files: int = 20, size: int = 1 << 20) -> pa.Table:
        sampler = Sampler(seed=seed_of("x"), files=files, bytes=size, session="S", small=1000)
        for start in range(0, table.num_rows, window):
            sampler.window(table.slice(start, window))
        assert sampler.population.files == 2000
        return sampler.chosen()

    assert draw(2000).equals(draw(7))
    strata = draw(100)["stratum"].to_pylist()
    assert {kind: strata.count(kind) for kind in Stratum} == {0: 8, 1: 4, 2: 4, 3: 4}
    assert sum(draw(100, size=10_050)["size"].to_pylist()) <= 10_050
    assert draw(100, files=3000, size=1 << 30).num_rows == 2000


def test_the_digest_of_a_copy() -> None:
    key, data = b"k" * 32, random.Random(3).randbytes(3 << 20)

    def read_at(offset: int, view: memoryview) -> int:
        piece = data[offset : offset + len(view)]
        view[: len(piece)] = piece
        return len(piece)

    def digest(spans: list[tuple[int, int]], cuts: list[int]) -> bytes:
        return content_digest(read_at, spans, cuts, id_key=key)

    def chunk(content: bytes) -> bytes:
        return blake3(content, key=key).digest()

    assert digest(stored_spans(0, None), []) == chunk(b"")
    assert digest(stored_spans(len(data), None), [len(data)]) == chunk(data)
    both = chunk(b"moraine digest v1" + chunk(data[: 1 << 20]) + chunk(data[1 << 20 :]))
    assert digest(stored_spans(len(data), None), [1 << 20, 2 << 20]) == both
    spans = stored_spans(len(data), b"".join(n.to_bytes(8, "little") for n in (10, 20, 100, 5)))
    assert spans == [(10, 20), (100, 5)]
    parts = data[10:30] + data[100:105]
    assert digest(spans, [25]) == chunk(parts)
    assert digest(spans, [7, 18]) == chunk(b"moraine digest v1" + chunk(parts[:7]) + chunk(parts[7:]))
    assert digest([(0, len(data) + 1)], [len(data) + 1]) == b""
