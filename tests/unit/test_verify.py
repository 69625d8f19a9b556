"""Verify: every depth finds the damage it promises to find, and a refused pack is written anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from copying import Copying, noise
from moraine.engine.lots import Lots
from moraine.errors import DamagedObject, KeyUnavailable
from moraine.repository.unlock import Chunking
from moraine.steps.copy import Copied
from moraine.steps.verify import _choose, verify_shard

DEPTHS = ("structure", "sample", "full")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    small = Chunking(small=64 << 10, bundle=64 << 10, pack=300_000)
    monkeypatch.setattr("moraine.repository.unlock.Chunking", lambda **given: small)
    root = tmp_path / "tree"
    root.mkdir()
    for number in range(40):
        (root / f"f{number:02d}").write_bytes(noise(30_000, number))
    return root


def copied_at(tree: Path, depth: str, share: float = 0.05) -> tuple[Copying, Copied, list[str]]:
    work = Copying(tree, parts={"verify": {"depth": depth, "share": share}})
    copied = work.copy()
    keys = sorted(pack["key"] for pack in work.outcome(copied)["packs"])
    assert len(keys) == 5
    return work, copied, keys


def evidence(work: Copying, copied: Copied) -> dict[str, Any]:
    document: dict[str, Any] = work.run.work.load_json(verify_shard(work.run, copied.outcome).evidence)
    return document


def overwrite(work: Copying, key: str, data: bytes) -> None:
    work.store.delete(key)
    work.store.put(key, data)


@pytest.mark.parametrize("depth", DEPTHS)
def test_good_packs_pass_and_leave_evidence(tree: Path, depth: str) -> None:
    work, copied, keys = copied_at(tree, depth)
    verified = verify_shard(work.run, copied.outcome)
    assert (verified.depth, verified.packs) == (depth, 5)
    assert {"structure": verified.bytes == 0, "full": verified.bytes == 40 * 30_000}.get(depth, verified.bytes > 0)
    found = evidence(work, copied)
    assert sorted(found["packs"]) == keys
    assert (found["shard"], found["depth"], found["bytes"], found["unopened"]) == (0, depth, verified.bytes, 0)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(
    "damage", ["truncated", "longer", "swapped", "gone", "trailer", "header", "replaced by an older copy"]
)
def test_every_depth_finds_packs_that_are_not_whole(tree: Path, depth: str, damage: str) -> None:
    work, copied, keys = copied_at(tree, depth)
    first, second = work.store.get(keys[0]), work.store.get(keys[1])
    broken = {
        "truncated": first[:-1],
        "longer": first + b"x",
        "swapped": second,
        "trailer": first[:-40] + bytes([first[-40] ^ 1]) + first[-39:],
        "header": first[:50] + bytes([first[50] ^ 1]) + first[51:],
        "replaced by an older copy": first[: len(first) // 2] + bytes(len(first) // 2),
    }
    if damage == "gone":
        work.store.delete(keys[0])
    else:
        overwrite(work, keys[0], broken[damage])
    with pytest.raises(DamagedObject) as caught:
        verify_shard(work.run, copied.outcome)
    assert caught.value.context["packs"] == keys[:1]
    assert keys[0] in str(caught.value)


def flip(work: Copying, key: str, position: int) -> None:
    data = bytearray(work.store.get(key))
    data[position] ^= 1
    overwrite(work, key, bytes(data))


def test_full_finds_any_flipped_bit(tree: Path) -> None:
    work, copied, keys = copied_at(tree, "full")
    flip(work, keys[2], 100_000)
    with pytest.raises(DamagedObject) as caught:
        verify_shard(work.run, copied.outcome)
    assert caught.value.context["packs"] == [keys[2]]


def test_sample_opens_a_frame_of_every_pack(tree: Path) -> None:
    work, copied, keys = copied_at(tree, "sample", share=0.0)
    assert evidence(work, copied)["frames"] == 5
    for key in keys:  # a flip in every frame of every pack: whichever is chosen is found
        data = bytearray(work.store.get(key))
        for position in range(1000, len(data) - 1000, 5000):
            data[position] ^= 1
        overwrite(work, key, bytes(data))
    with pytest.raises(DamagedObject) as caught:
        verify_shard(work.run, copied.outcome)
    assert sorted(caught.value.context["packs"]) == keys


def test_a_retry_of_the_sample_looks_at_the_same_frames(tree: Path) -> None:
    work, copied, _ = copied_at(tree, "sample", share=0.3)
    first, second = evidence(work, copied), evidence(work, copied)
    assert first["frames"] == second["frames"] >= 5
    assert first["bytes"] == second["bytes"]


def test_the_sample_has_the_share_asked_for() -> None:
    packs = pa.DictionaryArray.from_arrays(
        pa.array(np.repeat(np.arange(50, dtype=np.int32), 200)), [f"p{n}" for n in range(50)]
    )
    offsets = pa.array(np.tile(np.repeat(np.arange(40, dtype=np.uint32), 5), 50))
    table = pa.table({"pack": packs, "offset": offsets})
    rows = _choose(table, 0.2, Lots(1))
    frames = {(row // 200, row % 200 // 5) for row in rows.tolist()}
    assert len(rows) == 5 * len(frames)
    assert 320 < len(frames) < 480
    assert {pack for pack, _ in frames} == set(range(50))
    assert len(_choose(table, 1.0, Lots(1))) == 10_000
    assert len({row // 200 for row in _choose(table, 0.0, Lots(1)).tolist()}) == 50


def test_a_refused_pack_is_written_again(tree: Path) -> None:
    work, copied, keys = copied_at(tree, "full")
    flip(work, keys[1], 100_000)
    with pytest.raises(DamagedObject):
        verify_shard(work.run, copied.outcome)
    again = work.copy()
    packs = {pack["key"] for pack in work.outcome(again)["packs"]}
    assert set(keys) - packs == {keys[1]}
    assert verify_shard(work.run, again.outcome).bytes == 40 * 30_000
    assert len(work.stored(again)) == 40


def test_a_host_that_may_only_write_checks_what_it_can(tree: Path) -> None:
    for depth in DEPTHS:
        work, copied, keys = copied_at(tree, depth)
        repository = work.repository
        repository.keyring = replace(repository.keyring, private_keys={})
        repository.chunks = type(repository.chunks)(work.store, repository.keyring)
        if depth != "structure":
            with pytest.raises(KeyUnavailable, match="cannot read"):
                verify_shard(work.run, copied.outcome)
            continue
        assert evidence(work, copied)["unopened"] == 5
        overwrite(work, keys[0], work.store.get(keys[0])[:-1])
        with pytest.raises(DamagedObject):
            verify_shard(work.run, copied.outcome)


def test_an_empty_outcome_passes(tree: Path) -> None:
    work = Copying(tree)
    work.replace(shard=[-1] * 41)
    verified = verify_shard(work.run, work.copy().outcome)
    assert (verified.packs, verified.chunks) == (0, 0)
