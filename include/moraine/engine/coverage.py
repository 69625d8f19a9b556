"""Which windows the snapshots of a policy stand for: on time, late, or not at all. Pure: no clock, no store.

A snapshot stands for every window that ends inside its own stretch of time: a scheduled run's stretch is its window,
that of a late run, of a run by hand or of the command line reaches back to the snapshot before it. So one late capture
closes the gap before it, and is late for all of it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from moraine.model.log import Session
from moraine.model.record import dataclass
from moraine.model.snapshot import SnapshotRecord
from moraine.model.window import Window

_SHORTEST = timedelta(minutes=1)


class State(StrEnum):
    """How a window stands."""

    ON_TIME = "on_time"
    LATE = "late"
    MISSED = "missed"
    EXPECTED = "expected"
    HELD = "held"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Capture:
    """A snapshot that is or was there; `forgotten` is why it is gone."""

    record: SnapshotRecord
    forgotten: str | None = None


@dataclass(frozen=True, slots=True)
class Coverage:
    """One window of the schedule and the snapshot that stands for it, with the reason."""

    window: Window
    state: State
    snapshot: str | None
    captured_at: datetime | None
    reason: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What a run for a window will stand for, and whether another one does already."""

    window: Window
    late: bool
    covered_by: SnapshotRecord | None = None  # its stretch holds the window's end: it stands for this window too
    awaited: Session | None = None  # the same of a late run that has opened and not committed yet


def stands_for(stretch: Window, window: Window) -> bool:
    """Whether a snapshot of `stretch` stands for `window`: the window's end lies in it."""
    return stretch.start < window.end <= stretch.end


def on_time_until(window: Window) -> datetime:
    """From here on a capture is late: another window of the same length would be over too."""
    return window.end + max(window.end - window.start, _SHORTEST)


def stand(
    window: Window,
    at: datetime,
    live: Iterable[SnapshotRecord],
    sessions: Iterable[Session] = (),
    *,
    first: datetime | None = None,
    history: timedelta | None = None,
) -> Standing:
    """What a run for `window` that begins at `at` stands for.

    Args:
        window: the run's own.
        at: the present.
        live: the policy's snapshots.
        sessions: the policy's open sessions of other runs.
        first: where the schedule begins, if it says so: a late run before any snapshot reaches back to it.
        history: how far back the source can be read as of the past; within that no run is late.
    """
    late = at >= on_time_until(window)
    records = list(live)
    if history is not None and at - window.end < history:
        same = [r for r in records if late and r.window == window and not r.late]
        return Standing(window, False, min(same, key=lambda r: (r.captured_at, r.id), default=None))
    covers = [r for r in records if (late or r.late) and stands_for(r.window, window)]
    covered_by = min(covers, key=lambda r: (r.captured_at, r.id), default=None)
    awaited = next((s for s in sessions if s.late and stands_for(s.window, window)), None)
    if not late:
        return Standing(window, False, covered_by, awaited)
    before = [r.window.end for r in records if r.window.end <= window.start]
    since = max(before, default=min(first or window.start, window.start))
    return Standing(Window(since, at), True, covered_by, awaited)


def cover(
    windows: Sequence[Window], captures: Iterable[Capture], sessions: Iterable[Session], now: datetime
) -> list[Coverage]:
    """How each window stands at `now`; `windows` are in order, and so is the answer."""
    ends = [window.end for window in windows]
    best: dict[int, Capture] = {}
    for capture in captures:
        stretch = capture.record.window
        for number in range(bisect_right(ends, stretch.start), bisect_right(ends, stretch.end)):
            found, window = best.get(number), windows[number]
            if found is None or _rank(capture, window) < _rank(found, window):
                best[number] = capture
    running = list(sessions)
    return [
        _not_covered(window, running, now) if window.end > now or number not in best else _covered(window, best[number])
        for number, window in enumerate(windows)
    ]


def count_gaps(coverage: Iterable[Coverage]) -> int:
    """Stretches of missed windows in a row."""
    gaps, inside = 0, False
    for item in coverage:
        missed = item.state is State.MISSED
        gaps += missed and not inside
        inside = missed
    return gaps


def _rank(capture: Capture, window: Window) -> tuple[bool, bool, datetime, str]:
    """Of several snapshots the one that is still there, on time, and nearest to the window's end speaks for it."""
    record = capture.record
    return capture.forgotten is not None, _is_late(record, window), record.captured_at, record.id


def _is_late(record: SnapshotRecord, window: Window) -> bool:
    """A snapshot of exactly this window is as late as it says; it may have read the past from a source's history."""
    if record.window == window:
        return record.late
    return record.captured_at >= on_time_until(window)


def _covered(window: Window, capture: Capture) -> Coverage:
    record = capture.record
    late = _is_late(record, window)
    when = "captured late, for all windows since the snapshot before it" if late else "captured on time"
    if not late and record.captured_at >= on_time_until(window):
        when = "captured later as of its end, from the source's history"
    if capture.forgotten is not None:
        state, reason = State.EXPIRED, f"{when}; forgotten: {capture.forgotten}"
    elif record.held is not None:
        state, reason = State.HELD, f"{when}; held: {record.held}"
    else:
        state, reason = State.LATE if late else State.ON_TIME, when
    return Coverage(window, state, record.id, record.captured_at, reason)


def _not_covered(window: Window, sessions: Sequence[Session], now: datetime) -> Coverage:
    state, reason = State.MISSED, "no snapshot stands for it"
    running = next((s for s in sessions if stands_for(s.window, window)), None)
    if window.end > now:
        state, reason = State.EXPECTED, "not over yet"
    elif running and now < on_time_until(window):
        state, reason = State.EXPECTED, f"session {running.id} is at work on it"
    elif running:
        reason = f"session {running.id} of run {running.run} has not committed: clear what failed in that run"
    return Coverage(window, state, None, None, reason)
