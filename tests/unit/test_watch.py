"""Alerts: one for each gap, one more when it grows, one when it closes; none lost by a crash."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest

from moraine.engine.objectives import Forecast, Promise, judge
from moraine.repository.repository import Repository
from moraine.steps.watch import Alert, watch
from moraine.stores.memory import MemoryStore
from test_objectives import DAY, HOUR, NIGHTLY, NOON, record


@pytest.fixture
def repository() -> Repository:
    return Repository.create(MemoryStore(), passphrase=None, now=NOON, entropy=os.urandom)


class People:
    """Who is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.deaf = False

    def tell(self, alert: Alert) -> None:
        if self.deaf:
            raise ConnectionError("no mail today")
        self.heard.append((alert.gap, alert.level))


def look(repository: Repository, people: People, age: timedelta, promise: Promise = NIGHTLY, rto: float = 0) -> None:
    forecast = Forecast("D1", NOON, rto) if rto else None
    watch(repository, judge("lake", [record("A", age)], promise, forecast, now=NOON), people.tell, now=NOON)


def test_a_gap_is_told_once_then_escalated_then_closed(repository: Repository) -> None:
    people = People()
    for age in (20, 27, 28, 30, 51, 53, 60, 2, 3):
        look(repository, people, age * HOUR)
    assert people.heard == [("rpo/000001", "open"), ("rpo/000001", "escalated"), ("rpo/000001", "closed")]
    look(repository, people, 27 * HOUR)
    assert people.heard[3:] == [("rpo/000002", "open")]


def test_what_is_grave_from_the_start_is_told_once(repository: Repository) -> None:
    people = People()
    look(repository, people, 20 * DAY)
    look(repository, people, 21 * DAY)
    assert people.heard == [("rpo/000001", "escalated")]
    look(repository, people, HOUR)
    assert people.heard[1:] == [("rpo/000001", "closed")]


def test_what_could_not_be_told_is_told_at_the_next_look(repository: Repository) -> None:
    people = People()
    people.deaf = True
    for _ in range(2):
        with pytest.raises(ConnectionError):
            look(repository, people, 27 * HOUR)
    people.deaf = False
    look(repository, people, 27 * HOUR)
    assert people.heard == [("rpo/000001", "open")]


def test_both_objectives_have_gaps_of_their_own(repository: Repository) -> None:
    people, both = People(), Promise(26 * HOUR, HOUR)
    look(repository, people, 27 * HOUR, both, rto=5400)
    look(repository, people, HOUR, both, rto=5400)
    look(repository, people, HOUR, both, rto=60)
    assert people.heard == [
        ("rpo/000001", "open"),
        ("rto/000001", "open"),
        ("rpo/000001", "closed"),
        ("rto/000001", "closed"),
    ]
