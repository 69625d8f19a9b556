"""The same crashes where the store is far away, and requests of a step wait side by side in threads of their own."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import pytest

from far import FarStore
from moraine.stores.fault import Crash
from night import Night
from test_crash import World, _same, world

__all__ = ["world"]  # the fixture


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", Night.STEPS)
def test_a_crash_at_every_store_call_and_a_retry_of_that_step(world: World, name: str, after: bool) -> None:
    at = Night.STEPS.index(name)
    call = 0
    crashed = True
    while crashed:  # how many calls there are, and in which order, depends on turns
        call += 1
        world.rewind()
        night = world.night("two")
        for step in Night.STEPS[:at]:
            night.step(step)
        store = FarStore(world.store, crash_at=call, crash="after" if after else "before")
        night.store = partial(_same, store)
        with suppress(Crash):
            night.step(name)
        crashed = store.crashed
        night.store = lambda: world.store
        for step in Night.STEPS[at:]:
            night.step(step)
        world.require_sound(2)
    assert call > 5
