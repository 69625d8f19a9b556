"""`moraine status`: what a monitor outside of Airflow asks; no run has to exist for it to be red."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from command_line import Line, nightly
from moraine.cli.context import Context

MISSED = 80


def promising(line: Line) -> str:
    file = nightly(line, "nights")
    file.write_text(file.read_text() + "objectives: {rpo: 30h}\n")
    return str(file)


def later(monkeypatch: pytest.MonkeyPatch, **passed: float) -> None:
    now = datetime.now(UTC) + timedelta(**passed)
    monkeypatch.setattr(Context, "clock", lambda self: now)


def test_from_nothing_to_proven_to_too_old(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    file = promising(line)
    assert "there is no snapshot" in line("status", file, "--exit-code", code=MISSED)
    line("backup", "--policy", file)
    assert "no snapshot is proven; the objective (rpo) is 1 day 6 hours" in line(
        "status", file, "--exit-code", code=MISSED
    )
    line("backup", "--policy", file, "--prove")
    head, row = line("status", file, "--exit-code").splitlines()
    assert head.split() == ["policy", "objectives", "newest", "proven", "age", "rpo", "why"]
    assert row.split()[:2] == ["nights", "met"]
    later(monkeypatch, days=2)
    row = line("status", file, "--exit-code", code=MISSED).splitlines()[1]
    assert "MISSED" in row and "old; the objective (rpo) is 1 day 6 hours" in row
    assert line("status", file).splitlines()[1] == row, "without --exit-code it only says so"


def test_all_policies_also_those_that_cannot_be_looked_at(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    file = promising(line)
    line("backup", "--policy", file, "--prove")
    folder = Path(file).parent
    monkeypatch.setenv("MORAINE_POLICIES", str(folder))
    (folder / "gone.yaml").write_text(
        f"policy: gone\nsource: {{path: /x}}\nrepository: {{url: {folder}/nowhere, passphrase_file: {line.secret}}}\n"
    )
    (folder / "bad.yaml").write_text("policy: bad\n")
    text = Path(file).read_text().replace(f"url: {line.repo}", f"url: {line.repo}, passphrase_file: {line.secret}")
    Path(file).write_text(text)
    rows = line("status", "--exit-code", code=MISSED, common=False).splitlines()[1:]
    assert sorted(row.split()[0:2] for row in rows) == [["bad", "unknown"], ["gone", "unknown"], ["nights", "met"]]
    found = {item["policy"]: item for item in line.json("status", common=False)}
    assert found["nights"]["met"] and found["nights"]["rpo"] == 108000 and found["nights"]["age"] < 100
    assert (found["gone"]["met"], found["gone"]["error"]["code"]) == (False, "not-a-repository")
    assert line("status", "nights", "--exit-code", common=False).splitlines()[1].split()[1] == "met"


def test_without_objectives_nothing_is_missed(line: Line) -> None:
    file = str(nightly(line, "nights"))
    assert line("status", file, "--exit-code").splitlines()[1].split()[:2] == ["nights", "none"]
