"""Failed snapshots and retention, against a small model: for each rule the newest sound ones, written out plainly."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from moraine.engine.retention import Candidate, select
from moraine.model.policy import Keep

START = datetime(2026, 1, 1, 2, tzinfo=UTC)

snapshots = st.lists(
    st.tuples(st.integers(0, 60 * 24), st.booleans(), st.booleans()), max_size=25, unique_by=lambda item: item[0]
).map(
    lambda items: [
        Candidate(f"s{hour}", START + timedelta(hours=hour), proven=proven and not failed, failed=failed)
        for hour, proven, failed in sorted(items)
    ]
)
rules = st.builds(
    Keep,
    last=st.integers(1, 4),
    daily=st.integers(0, 9) | st.none(),
    weekly=st.integers(0, 5) | st.none(),
    monthly=st.integers(0, 3) | st.none(),
)


def kept(candidates: list[Candidate], keep: Keep) -> set[str]:
    return {decision.id for decision in select(candidates, keep, UTC) if decision.keep}


def model(candidates: list[Candidate], keep: Keep) -> set[str]:
    """What must stay if the failed ones had never been taken."""
    sound = sorted((c for c in candidates if not c.failed), key=lambda c: c.window_end, reverse=True)
    found = {c.id for c in sound[: max(keep.last or 0, 1)]}
    for count, name in ((keep.daily, "%Y-%j"), (keep.weekly, "%G-%V"), (keep.monthly, "%Y-%m")):
        newest: dict[str, str] = {}
        for candidate in sound:
            newest.setdefault((candidate.window_end - timedelta(microseconds=1)).strftime(name), candidate.id)
        found.update(list(newest.values())[: count or 0])
    return found


@given(snapshots, rules)
def test_a_failed_snapshot_takes_no_good_ones_place(candidates: list[Candidate], keep: Keep) -> None:
    assert model(candidates, keep) <= kept(candidates, keep)


@given(snapshots, rules, st.data())
def test_marking_one_as_failed_never_makes_another_go(
    candidates: list[Candidate], keep: Keep, data: st.DataObject
) -> None:
    if not candidates:
        return
    chosen = data.draw(st.integers(0, len(candidates) - 1))
    before = kept(candidates, keep)
    marked = [replace(c, failed=True, proven=False) if n == chosen else c for n, c in enumerate(candidates)]
    assert before - {candidates[chosen].id} <= kept(marked, keep)


def test_the_daily_of_a_night_that_failed_stays_beside_the_one_it_would_have_displaced() -> None:
    nights = [Candidate(f"n{n}", START + timedelta(days=n), failed=n == 4) for n in range(5)]
    decisions = {decision.id: decision for decision in select(nights, Keep(daily=2), UTC)}
    assert [name for name, decision in decisions.items() if decision.keep] == ["n4", "n3", "n2"]
    assert decisions["n2"].reasons == ("daily 2 of 2",)
    assert decisions["n4"].reasons == ("newest", "daily 1 of 2, beside a sound one: it has failed")


def test_with_one_to_keep_the_good_one_stays_beside_failed_ones() -> None:
    nights = [Candidate(f"n{n}", START + timedelta(days=n), proven=n == 1, failed=n >= 3) for n in range(5)]
    assert kept(nights, Keep(last=1)) == {"n4", "n2", "n1"}  # the newest, the newest sound one, the last proven


def test_a_hold_outlasts_a_failure_and_displaces_nobody() -> None:
    nights = [
        Candidate("good", START),
        Candidate("held", START + timedelta(days=1), held="audit", failed=True),
        Candidate("bad", START + timedelta(days=2), failed=True),
    ]
    assert kept(nights, Keep(last=1)) == {"good", "held", "bad"}
    assert kept([*nights, Candidate("new", START + timedelta(days=3))], Keep(last=1)) == {"held", "new"}
