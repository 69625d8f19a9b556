"""`moraine coverage`, from a policy file and from a policy's name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from command_line import Line, nightly
from moraine.cli.context import Context

DAY = timedelta(days=1)


@pytest.fixture
def morning(line: Line, monkeypatch: pytest.MonkeyPatch) -> datetime:
    """The command line's clock stands a few nights on, and a snapshot was made right now."""
    now = datetime.now(UTC).replace(hour=12) + 5 * DAY
    monkeypatch.setattr(Context, "clock", lambda self: now)
    return now


def test_windows_newest_last_with_totals(line: Line, morning: datetime) -> None:
    file = nightly(line, "nights")
    line("backup", "--policy", str(file))
    first = morning.date() - 3 * DAY
    shown = line("coverage", str(file), "--from", str(first)).splitlines()
    assert shown[0].split() == ["window", "end", "state", "snapshot", "captured", "why"]
    assert [row.split()[2] for row in shown[1:-2]] == ["missed", "missed", "missed", "expected"]
    assert shown[-1] == "4 windows of nights, 3 missed, 1 expected, 1 gap"
    assert line("coverage", str(file), "--from", str(first), "-q").splitlines() == shown[:-2]


def test_a_later_backup_by_hand_closes_the_gap(line: Line, morning: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    file = nightly(line, "nights")
    line("backup", "--policy", str(file))
    monkeypatch.setattr(Context, "clock", lambda self: morning + 3 * DAY)
    snapshot = line.json("backup", "--policy", str(file))["snapshot"]
    report = line.json("coverage", str(file))
    assert [item["state"] for item in report["windows"]] == ["late", "on_time", "expected"]
    assert {item["snapshot"] for item in report["windows"][:2]} == {snapshot}
    assert (report["totals"]["late"], report["gaps"]) == (1, 0)


def test_forgotten_and_held(line: Line, morning: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    file = nightly(line, "nights")
    line("backup", "--policy", str(file))
    made = []
    for number in (1, 2):
        later = morning + number * DAY
        monkeypatch.setattr(Context, "clock", lambda self, later=later: later)
        made.append(line.json("backup", "--policy", str(file))["snapshot"])
    line("hold", "add", made[1], "--reason", "audit")
    line("forget", made[0])
    windows = line.json("coverage", str(file), "--from", str(morning.date()))["windows"]
    assert [(item["state"], item["snapshot"]) for item in windows[:2]] == [("expired", made[0]), ("held", made[1])]
    assert windows[0]["reason"] == "captured on time; forgotten: by name"


def test_a_policy_by_its_name(line: Line, morning: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MORAINE_POLICIES", str(nightly(line, "nights").parent))
    assert line.json("coverage", "nights")["policy"] == "nights"
    line("coverage", "dogs", code=10)
    assert "one of: nights" in line.err
    (line.folder / "bad.yaml").write_text("policy: bad\n")
    line("coverage", "bad", code=10)
    assert "source" in line.err


def test_mistakes(line: Line) -> None:
    file = nightly(line, "nights")
    line("coverage", str(file), "--from", "yesterday", code=2)
    assert "not a day" in line.err
    file.write_text(file.read_text().partition("schedule")[0])
    line("coverage", str(file), code=10)
    assert "has no schedule" in line.err


def test_before_the_first_window_has_ended_it_says_so(line: Line, morning: datetime) -> None:
    file = nightly(line, "nights")
    tomorrow = morning.date() + 2 * DAY
    line("backup", "--policy", str(file))
    said = line("coverage", str(file), "--from", str(tomorrow)).strip()
    assert said == "0 windows of nights, none has ended yet since its start or first snapshot, 0 gaps"
