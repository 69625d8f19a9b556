"""A tree whose listing begins while its repository is being opened."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from moraine.errors import SourceError
from moraine.sources import posix_walk
from moraine.sources.base import ListShard
from moraine.sources.posix import PosixSource
from moraine.steps.backup import Holder, backup
from moraine.stores.memory import MemoryStore
from night import Clock, make_policy, make_repository

WHOLE = ListShard("all")


def names(source: PosixSource, shard: ListShard = WHOLE) -> list[bytes]:
    return [name for batch in source.list(shard) for name in batch.column("name").to_pylist()]


def test_what_was_listed_ahead_is_handed_out_once(tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    source = PosixSource(str(tmp_path))
    source.begin()
    (tmp_path / "new").touch()
    assert names(source) == [b"", b"old"]
    assert names(source) == [b"", b"new", b"old"]


def test_beyond_the_first_batch_the_listing_goes_on_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posix_walk, "BATCH", 4)
    for folder in "abc":
        (tmp_path / folder).mkdir()
        for name in range(3):
            (tmp_path / folder / str(name)).touch()
    source = PosixSource(str(tmp_path))
    expected = names(source)
    source.begin()
    (tmp_path / "c" / "late").touch()
    assert names(source) == [*expected, b"late"]


def test_a_part_of_the_tree_is_listed_anew(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    source = PosixSource(str(tmp_path))
    source.begin()
    (tmp_path / "a" / "new").touch()
    assert names(source, ListShard("part-001", (b"",), (b"b",))) == [b"", b"a", b"new"]
    assert names(source) == [b"", b"a", b"new"], "nothing of the first listing is left"


def test_a_root_that_is_gone_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nothing-here"):
        PosixSource(str(tmp_path / "nothing-here")).begin()


def test_a_snapshot_stands_for_the_time_its_listing_began(tmp_path: Path) -> None:
    clock, store = Clock(), MemoryStore()
    repository = make_repository(store, clock)
    source = PosixSource(str(tmp_path))
    began = clock()
    source.begin()
    (tmp_path / "later").touch()
    clock.advance(seconds=90)  # a passphrase was stretched, or a store was slow
    done = backup(
        repository,
        make_policy(tmp_path),
        source,
        clock=clock,
        entropy=os.urandom,
        holder=Holder("host", "mark", alive=lambda mark: True),
        work=MemoryStore(),
        began=began,
    )
    record = repository.state.snapshots[done.snapshot]
    assert record.files == 0
    assert record.captured_at == began
    assert record.window.end == began, "it must not cover what came after it looked"
    assert record.finished_at - began >= timedelta(seconds=90)
