"""Listing into an inventory: what a source delivers has to be in order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from moraine.errors import SourceError
from moraine.model.window import Window
from moraine.sources import posix_walk
from moraine.sources.base import ListShard
from moraine.sources.posix import PosixSource
from moraine.steps.list import list_entries
from moraine.steps.open import open_run
from moraine.stores.memory import MemoryStore
from night import START, Clock, make_policy, make_repository


class _Disordered(PosixSource):
    """Delivers its batches, or the rows of each, backwards."""

    whole_batches = False

    def list(self, shard: ListShard) -> Iterator[pa.RecordBatch]:
        batches = list(super().list(shard))
        if self.whole_batches:
            yield from reversed(batches)
            return
        for batch in batches:
            yield batch.take(pa.array(range(len(batch) - 1, -1, -1)))


@pytest.mark.parametrize("whole_batches", [False, True])
def test_rows_out_of_order_are_refused(whole_batches: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posix_walk, "BATCH", 3)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1").touch()
        (tmp_path / folder / "2").touch()
    clock = Clock()
    source = _Disordered(str(tmp_path))
    source.whole_batches = whole_batches
    run = open_run(
        make_repository(MemoryStore(), clock),
        make_policy(tmp_path),
        source,
        run="night",
        window=Window(START - timedelta(days=1), START),
        clock=clock,
        entropy=os.urandom,
    )
    with pytest.raises(SourceError, match="out of order"):
        list_entries(run, ListShard("all"))
