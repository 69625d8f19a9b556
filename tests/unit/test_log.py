"""The log: races, chain, checkpoints, refusals."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta

import pytest

from far import FarStore
from moraine.errors import ClockSkew, ForgedObject, MissingObject, SessionClosed, UnsupportedFormat
from moraine.model.log import LogState, Session
from moraine.model.window import Window
from moraine.repository import layout
from moraine.repository.documents import write_open
from moraine.repository.keys import Keyring
from moraine.repository.log import CHECKPOINT_EVERY, Log
from moraine.repository.log_objects import fetch_log
from moraine.stores.memory import MemoryStore

NOW = datetime(2026, 11, 21, 2, tzinfo=UTC)
KEYRING = Keyring.create(os.urandom)


def log_over(store: MemoryStore) -> Log:
    log = Log(store, KEYRING, os.urandom)
    log.open()
    return log


def session(name: str, attempt: int = 1) -> dict[str, object]:
    made = Session(name, "run", attempt, "p", Window(NOW, NOW), None, NOW, 0)
    return {"session": made.to_dict()}


def test_entries_are_numbered_chained_and_read_back() -> None:
    store = MemoryStore()
    log = log_over(store)
    for n in range(5):
        assert log.append("open-session", session(f"s{n}"), now=NOW).number == n
    assert list(log_over(store).state.sessions) == [f"s{n}" for n in range(5)]
    assert [entry.number for entry in log.entries()] == list(range(5))


def test_twenty_writers_at_once_get_twenty_numbers() -> None:
    store = MemoryStore()
    writers = [
        threading.Thread(target=lambda n=n: log_over(store).append("open-session", session(f"s{n}"), now=NOW))
        for n in range(20)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(log_over(store).state.sessions) == 20
    assert log_over(store).state.number == 19


def test_the_loser_of_a_race_is_validated_against_the_winner() -> None:
    store = MemoryStore()
    first, second = log_over(store), log_over(store)
    first.append("open-session", session("s"), now=NOW)

    def still_open(state: LogState) -> None:
        state.require_open("s", 1)

    first.append("abandon-session", {"session": "s"}, now=NOW, validate=still_open)
    with pytest.raises(SessionClosed):
        second.append("abandon-session", {"session": "s"}, now=NOW, validate=still_open)
    assert log_over(store).state.number == 1


def test_a_checkpoint_gives_the_same_state_as_all_entries() -> None:
    store = MemoryStore()
    log = log_over(store)
    for n in range(CHECKPOINT_EVERY * 2 + 5):
        log.append("open-session", session(f"s{n}"), now=NOW)
        if n % 3:
            log.append("close-session", {"session": f"s{n}"}, now=NOW)
    assert len(list(store.list(layout.CHECKPOINTS))) >= 2
    with_checkpoint = log_over(store).state
    assert with_checkpoint == log.state
    for info in list(store.list(layout.CHECKPOINTS)):
        store.delete(info.key)
    assert log_over(store).state == with_checkpoint


def test_replaced_missing_and_foreign_entries_are_told() -> None:
    store = MemoryStore()
    log = log_over(store)
    for n in range(4):
        log.append("open-session", session(f"s{n}"), now=NOW)
    third = store.get(layout.log_entry(2))

    store.delete(layout.log_entry(2))
    with pytest.raises(MissingObject, match="log entry 2 is missing"):
        log_over(store)

    store.put(layout.log_entry(2), store.get(layout.log_entry(1)))
    with pytest.raises(ForgedObject):
        log_over(store)

    store.delete(layout.log_entry(2))
    other = MemoryStore()
    twin = log_over(other)
    for n in range(3):
        twin.append("open-session", session(f"x{n}"), now=NOW)
    store.put(layout.log_entry(2), other.get(layout.log_entry(2)))  # well signed, but of another history
    with pytest.raises(ForgedObject, match="predecessor"):
        log_over(store)

    store.delete(layout.log_entry(2))
    store.put(layout.log_entry(2), third)
    assert log_over(store).state.number == 3


def test_a_clock_behind_the_log_is_refused_and_nothing_is_written() -> None:
    store = MemoryStore()
    log = log_over(store)
    log.append("open-session", session("s"), now=NOW)
    log.append("open-session", session("t"), now=NOW - timedelta(minutes=9))
    with pytest.raises(ClockSkew, match="clock"):
        log.append("open-session", session("u"), now=NOW - timedelta(hours=1))
    assert log_over(store).state.number == 1


def test_entries_of_a_newer_version_can_be_read_past_but_not_written_after() -> None:
    store = MemoryStore()
    log = log_over(store)
    log.append("open-session", session("s"), now=NOW)
    log.append("quantum-merge", {}, now=NOW)
    assert list(log_over(store).state.sessions) == ["s"]
    with pytest.raises(UnsupportedFormat, match="quantum-merge"):
        log_over(store).append("open-session", session("t"), now=NOW)


def test_an_entry_of_a_newer_layout_is_refused() -> None:
    store = MemoryStore()
    log = log_over(store)
    log.append("open-session", session("s"), now=NOW)
    key = layout.log_entry(1)
    store.put(key, write_open({"version": 2}, key=key, keyring=KEYRING))
    with pytest.raises(UnsupportedFormat, match="version 2"):
        log_over(store)


def test_a_refusal_is_not_final_when_the_log_has_gone_on() -> None:
    store = MemoryStore()
    first, second = log_over(store), log_over(store)
    first.append("open-session", session("s"), now=NOW)

    def is_open(state: LogState) -> None:
        state.require_open("s", 1)

    assert second.append("close-session", {"session": "s"}, now=NOW, validate=is_open).number == 1
    assert log_over(store).state == second.state


def test_a_log_without_checkpoints_is_read_to_its_end() -> None:
    store = MemoryStore()
    log = log_over(store)
    for n in range(300):
        log.append("open-session", session(f"s{n}"), now=NOW)
    for info in list(store.list(layout.CHECKPOINTS)):
        store.delete(info.key)
    for far in (store, FarStore(store)):
        found = fetch_log(far)
        for _ in range(2):  # what was fetched serves again
            again = Log(far, KEYRING, os.urandom)
            assert again.open(found) == log.state
