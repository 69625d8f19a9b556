"""Opening a session, again and beside others."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from moraine.errors import MoraineError
from moraine.model.log import LogState
from moraine.model.window import Window
from moraine.sources.posix import PosixSource
from moraine.steps.open import open_run
from moraine.steps.run import Run
from moraine.stores.memory import MemoryStore
from night import START, Clock, make_policy, make_repository, open_repository

DAY = timedelta(days=1)
NIGHT = Window(START - DAY, START)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(clock: Clock, store: MemoryStore, folder: Path, **parts: object) -> Run:
    fields: dict[str, object] = {"run": "night", "window": NIGHT, "late": False, **parts}
    return open_run(
        open_repository(store),
        make_policy(folder),
        PosixSource(str(folder)),
        clock=clock,
        entropy=os.urandom,
        **fields,  # type: ignore[arg-type]
    )


def test_a_session_that_is_opened_again_days_later_is_late(clock: Clock, tmp_path: Path) -> None:
    store = MemoryStore()
    make_repository(store, clock)
    first = opened(clock, store, tmp_path).session
    clock.advance(days=5)
    again = opened(clock, store, tmp_path, window=Window(NIGHT.start, clock.now), late=True).session
    assert (again.id, again.attempt) == (first.id, 2)
    assert again.late
    assert again.opened_at - first.opened_at > 5 * DAY
    assert again.window.end > START + 4 * DAY


def test_a_run_that_is_not_needed_any_more_opens_nothing(clock: Clock, tmp_path: Path) -> None:
    store = MemoryStore()
    repository = make_repository(store, clock)

    def refuse(state: LogState) -> None:
        assert not state.sessions, "it sees the log as it is"
        raise MoraineError("not needed")

    with pytest.raises(MoraineError, match="not needed"):
        opened(clock, store, tmp_path, validate=refuse)
    assert repository.log.refresh().sessions == {}
