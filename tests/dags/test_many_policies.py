"""What 200 policies cost the dag processor, counted in what does not depend on how busy the machine is."""

from __future__ import annotations

import os
import runpy
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from moraine.workflows.backup import build_backup_dag
from moraine.workflows.policies import read_policies

ROOT = Path(__file__).resolve().parents[2]
POLICY = """
policy: p{0:03}
source: {{path: /srv/lake/{0}, exclude: ["*.tmp"]}}
repository: {{url: s3://backups/moraine, connection: aws}}
schedule: {{cron: "{1} 2 * * *"}}
keep: {{daily: 7, weekly: 5}}
"""


@pytest.fixture
def many(policies: Path) -> Path:
    for number in range(200):
        (policies / f"p{number:03}.yaml").write_text(POLICY.format(number, number % 60))
    return policies


def count_calls(of: Any) -> int:
    """Calls of functions, Python's and C's, until `of` has returned."""
    counts: Counter[str] = Counter()

    def count(frame: Any, event: str, argument: Any) -> None:
        counts[event] += 1

    sys.setprofile(count)
    try:
        of()
    finally:
        sys.setprofile(None)
    return counts["call"] + counts["c_call"]


def test_each_policy_is_a_dag_and_each_file_is_read_once(many: Path) -> None:
    read: Counter[str] = Counter()

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and str(arguments[0]).startswith(str(many)):
            read[str(arguments[0])] += 1

    sys.addaudithook(note)  # for ever, so it looks at this folder only
    found = runpy.run_path(str(ROOT / "dags/backup.py"))
    assert sum(name.startswith("backup__p") for name in found) == 200
    assert read == {str(file): 1 for file in many.iterdir()}


def test_reading_and_building_take_few_steps(many: Path) -> None:
    """3,200 calls to read a policy and 17,000 to make its DAG, when written: 0.8 s for 200 on one quiet core."""
    loaded, _ = read_policies()
    build_backup_dag(loaded[0])  # what is imported and cached once
    reading = count_calls(read_policies) / len(loaded)
    building = count_calls(lambda: [build_backup_dag(policy) for policy in loaded[:20]]) / 20
    assert reading < 6_000
    assert building < 24_000


def test_a_task_reads_all_and_builds_one(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "backup__p007")
    assert os.environ["MORAINE_POLICIES"] == str(many)
    found = runpy.run_path(str(ROOT / "dags/backup.py"))
    assert [name for name in found if name.startswith("backup__p")] == ["backup__p007"]
