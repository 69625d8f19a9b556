"""Which snapshot stands for which window, and what is said of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from moraine.engine.coverage import Capture, Coverage, State, count_gaps, cover, on_time_until, stand
from moraine.engine.windows import expected_windows
from moraine.errors import ConfigError
from moraine.model.log import Session
from moraine.model.snapshot import SnapshotRecord
from moraine.model.window import Window

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
START = datetime(2026, 11, 1, 2, tzinfo=UTC)
WINDOWS = [Window(START + n * DAY, START + (n + 1) * DAY) for n in range(5)]
NOW = WINDOWS[3].end + HOUR


def capture(start: datetime, end: datetime, at: datetime | None = None, **parts: Any) -> Capture:
    forgotten = parts.pop("forgotten", None)
    fields: dict[str, Any] = {"late": False, "held": None, "id": f"snapshot of {end}", **parts}
    names = ("key", "digest", "session", "policy", "source", "host")
    record = SnapshotRecord(
        **dict.fromkeys(names, ""),
        **dict.fromkeys(("files", "bytes", "added", "stored", "unreadable"), 0),
        window=Window(start, end),
        captured_at=at or end,
        finished_at=at or end,
        **fields,
    )
    return Capture(record, forgotten)


def of(window: Window, **parts: Any) -> Capture:
    return capture(window.start, window.end, **parts)


def states(captures: list[Capture], sessions: list[Session] | None = None, now: datetime = NOW) -> list[str]:
    return [str(item.state) for item in cover(WINDOWS, captures, sessions or [], now)]


def test_nights_on_time_with_a_gap() -> None:
    assert states([of(WINDOWS[0]), of(WINDOWS[3])]) == ["on_time", "missed", "missed", "on_time", "expected"]


def test_a_late_capture_stands_for_the_whole_gap() -> None:
    late = capture(WINDOWS[0].end, NOW, late=True)
    assert states([of(WINDOWS[0]), late]) == ["on_time", "late", "late", "on_time", "expected"]


def test_backups_by_hand_cover_the_windows_that_end_in_them() -> None:
    night = [capture(w.start + HOUR, w.end + HOUR) for w in WINDOWS[:4]]  # `cron` of the machine, an hour later
    assert states(night) == ["on_time"] * 4 + ["expected"]
    assert states([capture(WINDOWS[1].start, WINDOWS[1].end - HOUR)]) == ["missed"] * 4 + ["expected"]
    assert states([capture(NOW, NOW)]) == ["missed"] * 4 + ["expected"], "a first one stands for its instant alone"


def test_a_run_asks_what_coverage_says() -> None:
    by_hand = capture(WINDOWS[1].start + HOUR, WINDOWS[2].end + HOUR).record
    found = [stand(window, NOW + 9 * DAY, [by_hand]).covered_by for window in WINDOWS]
    assert found == [None, by_hand, by_hand, None, None]
    before, after = of(WINDOWS[0]).record, of(WINDOWS[3]).record
    assert stand(WINDOWS[2], NOW + 9 * DAY, [before, after]).window == Window(WINDOWS[0].end, NOW + 9 * DAY)


def test_the_past_read_from_a_sources_history_is_on_time() -> None:
    assert states([of(WINDOWS[1], at=NOW)])[1] == "on_time"
    assert states([of(WINDOWS[1], at=NOW, late=True)])[1] == "late"


def test_held_and_expired() -> None:
    captures = [of(WINDOWS[0], forgotten="daily 2"), of(WINDOWS[1], held="audit"), of(WINDOWS[2], held="audit")]
    found = cover(WINDOWS, captures, [], NOW)
    assert [str(item.state) for item in found] == ["expired", "held", "held", "missed", "expected"]
    assert found[0].reason == "captured on time; forgotten: daily 2"
    assert found[1].reason == "captured on time; held: audit"


def test_of_several_the_living_then_the_timely_speaks() -> None:
    late = capture(WINDOWS[0].start, NOW, late=True, id="late")
    gone = of(WINDOWS[0], forgotten="by name", id="gone")
    timely = of(WINDOWS[1], id="timely")
    found = cover(WINDOWS, [gone, late, timely], [], NOW)
    assert [item.snapshot for item in found[:2]] == ["late", "timely"]
    assert found == cover(WINDOWS, [timely, late, gone], [], NOW)


def test_a_session_at_work_is_waited_for_as_long_as_it_can_be_on_time() -> None:
    session = Session("S", "dag/run", 1, "p", WINDOWS[3], None, WINDOWS[3].end, 0)
    assert states([], [session]) == ["missed", "missed", "missed", "expected", "expected"]
    found = cover(WINDOWS, [], [session], on_time_until(WINDOWS[3]))
    assert found[3].state is State.MISSED
    assert "dag/run" in found[3].reason


def test_gaps_are_counted_by_stretch() -> None:
    def gaps(letters: str) -> int:
        kinds = {"m": State.MISSED, "o": State.ON_TIME}
        return count_gaps(Coverage(WINDOWS[0], kinds[letter], None, None, "") for letter in letters)

    assert [gaps(text) for text in ("", "ooo", "mmm", "mom", "ommomo")] == [0, 0, 1, 2, 2]


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", (2027, 3, 27), [24, 23, 24]),  # 02:30 does not exist on the 28th: the clock shows 03:30
        ("Europe/Berlin", (2026, 10, 24), [25, 24, 24]),  # 02:30 comes twice on the 25th: the second counts
        ("America/New_York", (2027, 3, 13), [24, 23, 24]),
        ("UTC", (2028, 2, 28), [24, 24, 24]),
    ],
)
def test_windows_where_the_clock_is_changed(zone: str, day: tuple[int, int, int], hours: list[int]) -> None:
    start = datetime(*day, tzinfo=UTC)
    found = list(expected_windows("30 2 * * *", zone, start, start + 2.9 * DAY))
    assert [(w.end - w.start) / HOUR for w in found] == hours
    assert all(a.end == b.start for a, b in pairwise(found))


def test_a_day_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match="no date that exists"):
        list(expected_windows("0 0 30 2 *", "UTC", START, NOW))
    leap = list(expected_windows("0 0 29 2 *", "UTC", START, datetime(2033, 1, 1, tzinfo=UTC)))
    assert [w.start.year for w in leap] == [2028, 2032]
