"""The set of known chunk ids, across its frozen parts."""

from __future__ import annotations

import numpy as np
import pytest
from blake3 import blake3

from moraine.engine import known
from moraine.engine.known import KnownIds


def chunk_id(number: int) -> bytes:
    """An id; every third ends in zero bytes, which a fixed-width string must not drop."""
    full = blake3(str(number).encode()).digest()
    return full[:20] + bytes(12) if number % 3 == 0 else full


@pytest.fixture(autouse=True)
def _freeze_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "_RECENT", 10)


def test_what_was_added_is_there_and_nothing_else() -> None:
    ids = KnownIds()
    for number in range(1000):
        assert ids.contains([chunk_id(number)]) == [False]
        ids.add(chunk_id(number))
    assert len(ids) == 1000
    asked = [chunk_id(number) for number in range(500, 1500)]
    assert ids.contains(asked) == [True] * 500 + [False] * 500
    assert len(ids._frozen) < 8


def test_many_at_once() -> None:
    ids = KnownIds()
    ids.add_all(np.frombuffer(b"".join(chunk_id(number) for number in range(100)), "S32"))
    ids.add_all(np.frombuffer(b"", "S32"))
    ids.add(chunk_id(200))
    assert ids.contains([chunk_id(0), chunk_id(99), chunk_id(100), chunk_id(200)]) == [True, True, False, True]


def test_an_id_that_differs_in_its_last_byte_is_another() -> None:
    ids = KnownIds()
    ids.add_all(np.frombuffer(bytes(32) + bytes(31) + b"\x02", "S32"))
    assert ids.contains([bytes(32), bytes(31) + b"\x01", bytes(31) + b"\x02"]) == [True, False, True]
    assert KnownIds().contains([]) == []
