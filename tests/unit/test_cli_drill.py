"""`moraine drill` as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from command_line import Line

POLICY = """
policy: docs
source: {{path: {line.source}}}
repository: {{url: {line.repo}, passphrase_file: {line.secret}}}
drill:
  restore: whole
  place: {{path: {line.folder}/place}}
  run: {{command: [grep, -q, hello, a.txt]}}
objectives: {{rpo: 1d, rto: 1h}}
"""


@pytest.fixture
def policy(line: Line) -> Path:
    file = line.folder / "docs.yaml"
    file.write_text(POLICY.format(line=line))
    return file


def test_a_drill_is_held_listed_shown_exported_and_asked_in_sql(line: Line, policy: Path) -> None:
    page = line.folder / "drill.html"
    held = line.json("drill", str(policy), "--seed", "5", "--report", str(page))
    assert held["passed"] and held["sound"] and held["seed"] == 5 and held["reasons"] == []
    assert "<h1>Restore drill of docs</h1>" in page.read_text() and "the page is in" in line.err
    assert not list((line.folder / "place").iterdir())
    listed = line.json("drill", "--list")
    assert [report["drill"] for report in listed] == [held["drill"]]
    assert held["drill"] in line("drill", "--list") and "passed" in line("drill", "--list")
    again = line.folder / "again.html"
    shown = line.json("drill", str(policy), "--show", "latest", "--report", str(again))
    assert shown == held and again.read_text() == page.read_text()
    query = "select subject, bool_and(check_passed) as good, min(seed) as seed from drills group by 1"
    rows = line.json("sql", query)
    assert {"manifest", "application", "objective"} <= {row["subject"] for row in rows}
    assert all(row["good"] and row["seed"] == 5 for row in rows)
    assert "check_passed" in line("sql", "describe drills")


def test_a_drill_that_fails_says_why_and_ends_with_70(line: Line, policy: Path) -> None:
    policy.write_text(policy.read_text().replace("hello", "goodbye"))
    line("drill", str(policy), code=70)
    assert "application: grep answers: expected 0, found 1" in line.err
    (found,) = line.json("snapshots")
    assert found["failed"] and not found["proven"]


def test_what_cannot_be_drilled_is_said(line: Line, policy: Path) -> None:
    line("drill", code=10)
    assert "name the policy to drill" in line.err
    line("drill", str(policy), "--snapshot", "NOPE", code=43)
    line("drill", "--show", "NOPE", code=43)
    assert line("drill", "--list") == "no drills\n"
    assert line.json("sql", "select * from drills") == []
