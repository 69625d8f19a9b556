"""A drill over a store that is slow indeed: the pace is measured by the clock on the wall."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from drilling import Lake
from moraine.steps.drill import drill
from moraine.stores.local import LocalStore
from night import open_repository

PACE = 5 << 20  # bytes a second
LINE = threading.Lock()  # one for all requests


class SlowStore(LocalStore):
    """A store behind a thin line."""

    def get_range(self, key: str, start: int, length: int) -> bytes:
        with LINE:
            time.sleep(length / PACE)
        return super().get_range(key, start, length)


def hold(lake: Lake, store: LocalStore, rto: str) -> tuple[Any, dict[str, Any]]:
    offset = lake.clock() - datetime.now(UTC)
    rehearsal = lake.rehearsal(clock=lambda: datetime.now(UTC) + offset)
    found = drill(open_repository(store), lake.policy(objectives={"rto": rto}), rehearsal)
    return found, lake.repository.load_report(found.report)["measured"]


def test_a_slow_store_misses_the_objective_that_a_quick_one_meets(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.night()
    slow, measured = hold(lake, SlowStore(lake.repository_path), "1s")
    assert measured["recall_seconds"] == 0 and measured["seconds"] > 1
    assert slow.sound is True and not slow.passed
    (reason,) = slow.reasons
    assert "a full restore is forecast to take" in reason and "the objective (rto) is 1 second" in reason
    assert hold(lake, SlowStore(lake.repository_path), "1h")[0].passed
    assert lake.leftovers() == []
