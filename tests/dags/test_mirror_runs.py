"""A mirror as a DAG: the tasks of every backup, and a plain tree at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk import DAG

from airflow_runs import clear_failed, go_on, run, states
from compare import compare_trees
from mirroring import mirror_differences
from moraine.errors import DamagedObject
from moraine.workflows.backup import build_backup_dag
from moraine.workflows.policies import find_policy
from moraine.workflows.restore import build_restore_dag


def dag(folder: Path, policies: Path, **parts: Any) -> DAG:
    policy = {
        "policy": "standby",
        "source": {"path": str(folder / "source")},
        "destination": {"kind": "mirror", "url": str(folder / "mirror")},
        "keep": {"last": 2},
        **parts,
    }
    (policies / "standby.yaml").write_text(yaml.safe_dump(policy))
    return build_backup_dag(find_policy("standby"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(30):
        file = tmp_path / f"source/folder {number % 3}/file-{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"line {number}\n" * 50)
    (tmp_path / "mirror").mkdir()
    return tmp_path


def test_two_nights_and_a_restore(folder: Path, policies: Path) -> None:
    nights = dag(folder, policies)
    assert set(states(run(nights)).values()) == {"success 1"}
    assert mirror_differences(folder / "source", folder / "mirror") == []
    (folder / "source/folder 1/file-1.txt").write_text("changed")
    (folder / "mirror/stranger").write_text("theirs")
    assert set(states(run(nights)).values()) == {"success 1"}
    assert mirror_differences(folder / "source", folder / "mirror") == []
    form = {"policy": "standby", "target": str(folder / "restored"), "dry_run": False}
    assert set(states(run(build_restore_dag(["standby"]), form)).values()) == {"success 1"}
    assert compare_trees(folder / "source", folder / "restored") == []


def test_a_failed_part_is_cleared_and_only_that_is_done_again(
    folder: Path, policies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import moraine.steps.route

    real, failed = moraine.steps.route.copy_mirror, []

    def copy(run: Any, changes: str, shard: int, **more: Any) -> Any:
        if shard == 1 and not failed:
            failed.append(shard)
            raise DamagedObject("a flipped bit")
        return real(run, changes, shard, **more)

    monkeypatch.setattr(moraine.steps.route, "copy_mirror", copy)
    nights = dag(folder, policies, shards={"copy_files": 10})
    broken = run(nights)
    assert states(broken)["copy[1]"] == "failed 1"
    clear_failed(nights, broken)
    assert go_on(nights, broken) == "success"
    after = states(broken)
    assert (after["copy[0]"], after["copy[1]"]) == ("success 1", "success 2")
    assert mirror_differences(folder / "source", folder / "mirror") == []


def test_a_mirror_whose_place_is_missing_is_not_made(folder: Path, policies: Path) -> None:
    (folder / "mirror").rmdir()
    ended = states(run(dag(folder, policies)))
    assert ended["open"].startswith("failed")
    assert not (folder / "mirror").exists()
