"""A local repository is read frame by frame, others in larger requests: what is found, and counted, is the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from moraine.errors import AccessDenied
from moraine.repository import layout
from moraine.steps.check import Checked, check_repository
from moraine.stores.base import Store
from moraine.stores.local import LocalStore
from moraine.stores.memory import MemoryStore
from night import Clock, Night, make_policy, make_repository, open_repository


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A local repository of a few nights, each with packs of its own."""
    source, folder, clock = tmp_path / "source", tmp_path / "repository", Clock()
    store = LocalStore(folder)
    make_repository(store, clock)
    source.mkdir()
    for night in range(6):
        for number in range(30):
            (source / f"small-{night}-{number}").write_bytes(os.urandom(1000 + 100 * number))
        (source / f"large-{night}").write_bytes(os.urandom(5 << 20))
        clock.advance(days=1)
        Night(lambda: store, source, make_policy(source), clock, run_id=f"night {night}").all()
    return folder


def check(store: Store, *, readers: int = 2, share: float = 1.0) -> Checked:
    return check_repository(open_repository(store), read_data=share, clock=Clock(), readers=readers)


def both(folder: Path) -> Checked:
    """What a check finds there, and in a copy that is no local store."""
    local, other = LocalStore(folder), MemoryStore()
    for info in local.list(""):
        other.put(info.key, local.get(info.key))
    here, there = check(local), check(other, readers=1)
    assert here.problems == there.problems
    assert here.counts == there.counts
    return here


def packs(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "packs").rglob("*") if path.is_file())


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.chmod(0o600)
    path.write_bytes(data)


def test_all_is_well(folder: Path) -> None:
    checked = both(folder)
    assert checked.problems == []
    assert checked.counts["packs_read"] == len(packs(folder))
    assert checked.counts["chunks_read"] == checked.counts["indexed_chunks"] > 180
    assert checked.counts["bytes_read"] > 30 << 20


def test_every_damage_is_found(folder: Path) -> None:
    inside, header, trailer, cut, gone, *_ = packs(folder)
    flip(inside, 150)
    flip(header, 3)
    flip(trailer, trailer.stat().st_size - 20)
    os.truncate(cut, cut.stat().st_size // 2)
    gone.unlink()
    found = {problem["object"]: problem for problem in both(folder).problems}
    names = [path.relative_to(folder).as_posix() for path in (inside, header, trailer, cut, gone)]
    assert [found[name]["code"] for name in names] == ["pack-damaged"] * 4 + ["pack-missing"]
    assert "the frame at 128 fails its authentication tag" in found[names[0]]["message"]
    assert all(found[name]["files"] for name in (names[0], names[3], names[4]))


def test_only_what_is_asked_for_is_read(folder: Path) -> None:
    for path in packs(folder):
        flip(path, 150)
    checked = check(LocalStore(folder), share=0.4)
    assert len(checked.problems) == checked.counts["packs_read"] == 3


def test_trouble_with_the_store_is_raised(folder: Path) -> None:
    class Denied(LocalStore):
        def get_range(self, key: str, start: int, length: int) -> bytes:
            if key.startswith(layout.PACKS) and 0 < start < 1000:
                raise AccessDenied("not for you", object=key)
            return super().get_range(key, start, length)

    with pytest.raises(AccessDenied, match="not for you"):
        check(Denied(folder))
