"""Objectives: only what is proven counts, and nothing that is missing can look well."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from moraine.engine.objectives import Forecast, Objective, Promise, judge, point
from moraine.model.snapshot import SnapshotRecord
from moraine.model.window import Window

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
NIGHTLY = Promise(rpo=26 * HOUR)


def record(
    name: str, age: timedelta, *, proven: bool = True, failed: timedelta | None = None, late: bool = False
) -> SnapshotRecord:
    """A snapshot captured `age` ago, of the day before; `failed`: how long after its proof it failed one."""
    at = NOON - age
    return SnapshotRecord(
        id=name,
        key=f"snapshots/{name}.json",
        digest="0" * 64,
        session="S",
        policy="lake",
        source="posix:/lake",
        host="h",
        window=Window(at - 2 * DAY, at - DAY) if late else Window(at - DAY, at),
        captured_at=at,
        finished_at=at + HOUR,
        late=late,
        files=1,
        bytes=1,
        added=1,
        stored=1,
        unreadable=0,
        proven=at + HOUR if proven else None,
        failed=at + HOUR + failed if failed is not None else None,
    )


def missed(records: list[SnapshotRecord], promise: Promise = NIGHTLY, forecast: Forecast | None = None) -> list[str]:
    return [miss.reason for miss in judge("lake", records, promise, forecast, now=NOON).misses]


def test_a_fresh_proven_snapshot_meets_the_objective() -> None:
    assert missed([record("A", 20 * HOUR), record("B", 44 * HOUR)]) == []
    assert missed([record("A", 26 * HOUR)]) == []


def test_too_old() -> None:
    found = judge("lake", [record("A", 27 * HOUR)], NIGHTLY, None, now=NOON)
    [miss] = found.misses
    assert miss.reason == "the newest proven snapshot, A, is 1 day 3 hours old; the objective (rpo) is 1 day 2 hours"
    assert (miss.since, miss.grave, found.age) == (NOON - HOUR, False, 27 * HOUR)
    assert judge("lake", [record("A", 53 * HOUR)], NIGHTLY, None, now=NOON).misses[0].grave


def test_what_is_not_proven_does_not_count() -> None:
    assert missed([record("A", HOUR, proven=False)]) == ["no snapshot is proven; the objective (rpo) is 1 day 2 hours"]
    [reason] = missed([record("A", HOUR, proven=False), record("B", 48 * HOUR)])
    assert reason.startswith("the newest proven snapshot, B, is 2 days old") and reason.endswith("Z is not proven")


def test_a_failed_drill_takes_back_the_proof() -> None:
    [reason] = missed([record("A", HOUR, failed=HOUR), record("B", 48 * HOUR)])
    assert "snapshot, B," in reason and reason.endswith("has failed its proof")
    assert missed([record("A", HOUR, failed=-HOUR)]) == [], "proven again after it had failed"


def test_nothing_at_all() -> None:
    assert missed([]) == ["there is no snapshot; the objective (rpo) is 1 day 2 hours"]
    assert missed([], Promise()) == []


def test_a_late_capture_shows_when_it_was_captured_a_timely_one_its_window() -> None:
    assert point(record("A", HOUR, late=True)) == NOON - HOUR
    one = record("A", HOUR)
    assert point(one) == one.window.end


def test_a_drill_that_took_too_long() -> None:
    promise, slow = Promise(rto=HOUR), Forecast("D1", NOON - DAY, 5400)
    assert missed([], promise, slow) == [
        "a full restore takes 1 hour 30 minutes by drill D1; the objective (rto) is 1 hour"
    ]
    assert missed([], promise, Forecast("D1", NOON, 3600)) == []
    assert missed([], promise) == [], "before the first drill nobody knows"
    assert {miss.objective for miss in judge("lake", [], Promise(DAY, HOUR), slow, now=NOON).misses} == set(Objective)


@given(
    st.lists(st.tuples(st.integers(0, 200), st.booleans(), st.sampled_from([None, -1, 1])), max_size=8),
    st.integers(1, 100),
)
def test_met_means_a_proven_point_within_reach(nights: list[tuple[int, bool, int | None]], rpo: int) -> None:
    records = [
        record(f"S{n}", age * HOUR, proven=proven, failed=None if failed is None else failed * HOUR)
        for n, (age, proven, failed) in enumerate(nights)
    ]
    good = [age for age, proven, failed in nights if proven and (failed is None or failed < 0)]
    found = judge("lake", records, Promise(rpo=rpo * HOUR), None, now=NOON)
    assert found.met == (bool(good) and min(good) <= rpo)
