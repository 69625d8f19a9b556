"""Retention: pure rules over windows, each decision with its reasons."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moraine.engine.retention import Candidate, Decision, describe, select
from moraine.errors import UnsafeRetention
from moraine.model.policy import Keep

BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2026, 1, 1, 2, 30, tzinfo=UTC)


def nights(count: int, *, start: datetime = START, step: timedelta = timedelta(days=1)) -> list[Candidate]:
    """One snapshot per night, named n0, n1, …"""
    return [Candidate(f"n{i}", start + i * step) for i in range(count)]


def kept(decisions: list[Decision]) -> list[str]:
    return [decision.id for decision in decisions if decision.keep]


def why(decisions: list[Decision], name: str) -> tuple[str, ...]:
    return next(decision.reasons for decision in decisions if decision.id == name)


def test_decisions_come_newest_first_with_reasons() -> None:
    decisions = select(nights(10), Keep(daily=3), UTC)
    assert [decision.id for decision in decisions] == [f"n{i}" for i in range(9, -1, -1)]
    assert why(decisions, "n9") == ("newest", "daily 1 of 3")
    assert why(decisions, "n7") == ("daily 3 of 3",)
    assert why(decisions, "n6") == ("no rule keeps it (daily 3)",)
    assert kept(decisions) == ["n9", "n8", "n7"]


def test_last_counts_snapshots() -> None:
    assert kept(select(nights(5, step=timedelta(minutes=1)), Keep(last=2), UTC)) == ["n4", "n3"]


def test_of_one_day_the_newest_stays() -> None:
    hours = nights(48, start=datetime(2026, 1, 1, 0, 30, tzinfo=UTC), step=timedelta(hours=1))
    assert kept(select(hours, Keep(daily=2), UTC)) == ["n47", "n23"]
    assert kept(select(hours, Keep(hourly=3), UTC)) == ["n47", "n46", "n45"]


def test_missing_days_do_not_count() -> None:
    records = [Candidate(name, START + timedelta(days=day)) for name, day in (("a", 0), ("b", 30), ("c", 60))]
    assert kept(select(records, Keep(daily=3), UTC)) == ["c", "b", "a"]


def test_weeks_are_iso_weeks() -> None:
    # 2026-01-04 is a Sunday; 2027-01-01 still belongs to week 53 of 2026
    records = [
        Candidate(day, datetime.fromisoformat(f"{day}T12:00Z")) for day in ("2026-12-27", "2026-12-28", "2027-01-01")
    ]
    assert kept(select(records, Keep(weekly=9), UTC)) == ["2027-01-01", "2026-12-27"]


def test_months_and_years() -> None:
    decisions = select(nights(730), Keep(monthly=2, yearly=5), UTC)
    assert kept(decisions) == ["n729", "n698", "n364"]  # 2027-12-31, 2027-11-30, 2026-12-31
    assert why(decisions, "n364") == ("yearly 2 of 5",)


def test_a_window_that_ends_at_midnight_belongs_to_the_day_before() -> None:
    ends = [Candidate(f"{m}-{d}", datetime(2026, m, d, tzinfo=UTC)) for m, d in ((1, 31), (2, 1), (2, 2))]
    assert kept(select(ends, Keep(monthly=2), UTC)) == ["2-2", "2-1"]  # 2-1 is all of January 31


def test_days_are_the_policys() -> None:
    evening, night = datetime(2026, 6, 1, 21, 30, tzinfo=UTC), datetime(2026, 6, 1, 22, 30, tzinfo=UTC)
    records = [Candidate("evening", evening), Candidate("night", night)]
    assert kept(select(records, Keep(daily=2), UTC)) == ["night"]
    assert kept(select(records, Keep(daily=2), BERLIN)) == ["night", "evening"]  # past midnight there


def test_both_hours_of_the_autumn_night_count() -> None:
    records = [Candidate(str(h), datetime(2026, 10, 25, h, 30, tzinfo=UTC)) for h in (0, 1)]  # both 02:30 in Berlin
    assert kept(select(records, Keep(hourly=2), BERLIN)) == ["1", "0"]


def test_within_counts_back_from_the_newest_window_not_from_now() -> None:
    decisions = select(nights(10), Keep(within=timedelta(days=2)), UTC)
    assert kept(decisions) == ["n9", "n8", "n7"]
    assert why(decisions, "n7") == ("within 2 days of the newest",)


def test_the_newest_the_last_proven_and_the_held_always_stay() -> None:
    records = nights(9)
    records[2] = Candidate("n2", records[2].window_end, proven=True)
    records[4] = Candidate("n4", records[4].window_end, proven=True)
    records[1] = Candidate("n1", records[1].window_end, held="court order 12")
    decisions = select(records, Keep(last=1), UTC)
    assert kept(decisions) == ["n8", "n4", "n1"]
    assert why(decisions, "n4") == ("last proven",)
    assert why(decisions, "n1") == ("held: court order 12",)


def test_of_equal_windows_the_later_one_is_newer() -> None:
    records = [Candidate("first", START), Candidate("again", START)]
    assert kept(select(records, Keep(daily=5), UTC)) == ["again"]


def test_nothing_to_decide() -> None:
    assert select([], Keep(daily=1), UTC) == []


class Loose:
    """Rules that no validation has seen."""

    def __init__(self, **rules: object) -> None:
        for name in ("last", "hourly", "daily", "weekly", "monthly", "yearly", "within"):
            setattr(self, name, rules.get(name))


@pytest.mark.parametrize(
    "rules", [{}, {"daily": 0}, {"within": timedelta()}, {"daily": -1, "last": 3}, {"within": -timedelta(1)}]
)
def test_unsafe_rules_are_refused(rules: dict[str, object]) -> None:
    with pytest.raises(UnsafeRetention):
        select(nights(3), Loose(**rules), UTC)  # type: ignore[arg-type]


def test_describe() -> None:
    assert describe(Keep(last=1, weekly=4, within=timedelta(days=3))) == "last 1, weekly 4, within 3 days"


_instants = st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2030, 1, 1))
_counts = st.one_of(st.none(), st.integers(0, 5))
_records = st.lists(st.tuples(_instants, st.booleans(), st.booleans()), max_size=25).map(
    lambda items: [
        Candidate(str(i), end.replace(tzinfo=UTC), "why" if held else None, proven)
        for i, (end, held, proven) in enumerate(items)
    ]
)
_rules = st.fixed_dictionaries(
    dict.fromkeys(("last", "hourly", "daily", "weekly", "monthly", "yearly"), _counts)
    | {"within": st.one_of(st.none(), st.timedeltas(timedelta(1), timedelta(900)))}
).filter(lambda rules: any(rules.values()))


@given(_records, _rules)
def test_laws(records: list[Candidate], rules: dict[str, object]) -> None:
    keep = Keep(**rules)  # type: ignore[arg-type]
    decisions = select(records, keep, BERLIN)
    assert sorted(d.id for d in decisions) == sorted(c.id for c in records)
    staying = set(kept(decisions))
    assert all(decision.reasons for decision in decisions)
    if records:
        assert max(enumerate(records), key=lambda item: (item[1].window_end, item[0]))[1].id in staying
    assert {c.id for c in records if c.held} <= staying
    proven = [c for c in records if c.proven]
    assert not proven or any(c.id in staying for c in proven)
    for rule in ("hourly", "daily", "weekly", "monthly", "yearly"):
        by_rule = [d for d in decisions if any(reason.startswith(rule) for reason in d.reasons)]
        assert len(by_rule) <= (rules[rule] or 0)
    # What is kept is kept again: forgetting and asking once more forgets nothing.
    left = [c for c in records if c.id in staying]
    assert set(kept(select(left, keep, BERLIN))) == staying
    # More rules never forget more.
    wider = Keep(**(rules | {"last": 25}))  # type: ignore[arg-type]
    assert staying <= set(kept(select(records, wider, BERLIN)))
