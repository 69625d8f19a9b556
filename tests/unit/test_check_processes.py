"""A local repository checked by forked processes: they find what threads find, and only what is asked for is read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from moraine.errors import AccessDenied
from moraine.repository import layout
from moraine.steps import check_packs
from moraine.steps.check import Checked, check_repository
from moraine.stores.base import Store
from moraine.stores.local import LocalStore
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


@pytest.fixture(autouse=True)
def forks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many packs each fork was given; threads that other tests have left do not matter here."""
    seen: list[int] = []
    really = check_packs.in_processes

    def noted(work, count, processes):  # type: ignore[no-untyped-def]
        seen.append(count)
        return really(work, count, processes)

    monkeypatch.setattr(check_packs, "in_processes", noted)
    monkeypatch.setattr(check_packs, "may_fork", lambda: True)
    return seen


def check(folder: Path, *, processes: int, share: float = 1.0, store: Store | None = None) -> Checked:
    repository = open_repository(store or LocalStore(folder))
    return check_repository(repository, read_data=share, clock=Clock(), processes=processes)


def packs(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "packs").rglob("*") if path.is_file())


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.chmod(0o600)
    path.write_bytes(data)


def test_all_is_well(folder: Path, forks: list[int]) -> None:
    forked, threads = check(folder, processes=3), check(folder, processes=1)
    assert forks == [len(packs(folder))]
    assert forked.problems == threads.problems == []
    assert forked.counts == threads.counts
    assert forked.counts["packs_read"] == len(packs(folder))
    assert forked.counts["chunks_read"] == forked.counts["indexed_chunks"] > 180


def test_every_damage_is_found_as_threads_find_it(folder: Path, forks: list[int]) -> None:
    inside, header, trailer, cut, gone, *_ = packs(folder)
    flip(inside, 150)
    flip(header, 3)
    flip(trailer, trailer.stat().st_size - 20)
    os.truncate(cut, cut.stat().st_size // 2)
    gone.unlink()
    forked, threads = check(folder, processes=2), check(folder, processes=1)
    assert forks
    assert forked.problems == threads.problems
    assert forked.counts == threads.counts
    found = {problem["object"]: problem for problem in forked.problems}
    names = [path.relative_to(folder).as_posix() for path in (inside, header, trailer, cut, gone)]
    assert [found[name]["code"] for name in names] == ["pack-damaged"] * 4 + ["pack-missing"]
    assert all(found[name]["files"] for name in (names[0], names[3], names[4]))


def test_only_what_is_asked_for_is_read(folder: Path) -> None:
    for path in packs(folder):
        flip(path, 150)
    checked = check(folder, processes=2, share=0.4)
    assert len(checked.problems) == checked.counts["packs_read"] == 3


def test_trailers_alone_need_no_process(folder: Path, forks: list[int]) -> None:
    assert check(folder, processes=2, share=0).problems == []
    assert not forks


def test_trouble_with_the_store_is_raised(folder: Path) -> None:
    class Denied(LocalStore):
        def get_range(self, key: str, start: int, length: int) -> bytes:
            if key.startswith(layout.PACKS) and start > 1000:
                raise AccessDenied("not for you", object=key)
            return super().get_range(key, start, length)

    with pytest.raises(AccessDenied, match="not for you"):
        check(folder, processes=2, store=Denied(folder))
