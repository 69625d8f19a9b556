"""DAG files as Airflow's dag processor meets them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import RetryAction
from airflow.serialization.serialized_objects import DagSerialization

from moraine.errors import DamagedObject, GateRefused, StoreUnavailable
from moraine.workflows.pools import POOLS
from moraine.workflows.retry import retry_policy

ROOT = Path(__file__).resolve().parents[2]

# A renamed DAG or task loses its history: change this list only together with a note in CHANGELOG.md.
FROZEN = {
    "after_backup__demo": ["report"],
    "backup__demo": ["open", "list", "diff", "gate", "copy", "verify", "commit", "prove", "retain", "close"],
    "drill__demo": ["pick", "plan", "restore", "sets", "validate", "run", "measure", "report", "tear_down"],
    "maintenance": ["sweep"],
    "repository_probe": ["probe"],
    "restore": ["plan", "execute", "verify"],
}
HEAVY = ["pyarrow", "pandas", "numpy", "obstore", "boto3", "duckdb", "great_expectations", "pyfastcdc"]


def parse() -> DagBag:
    return DagBag(ROOT / "dags", bundle_name="dags-folder", bundle_path=ROOT / "dags")


@pytest.fixture
def demo(policies: Path) -> Path:
    shutil.copy(ROOT / "include/policies/demo.yaml", policies)
    return policies


def test_every_file_is_imported_and_every_id_is_as_ever(demo: Path) -> None:
    bag = parse()
    assert bag.import_errors == {}
    assert {dag_id: dag.task_ids for dag_id, dag in bag.dags.items()} == FROZEN


def test_dags_tell_what_they_do(demo: Path) -> None:
    for dag in parse().dags.values():
        assert dag.doc_md and dag.description and "moraine" in dag.tags
        assert all(task.owner for task in dag.tasks)
        assert all(param.schema.get("title") for _, param in dag.params.items())


def test_dags_survive_serialisation(demo: Path) -> None:
    for dag in parse().dags.values():
        again = DagSerialization.from_dict(DagSerialization.to_dict(dag))
        assert again.task_ids == dag.task_ids
        assert all(again.get_task(name).has_retry_policy for name in dag.task_ids)


def test_a_broken_policy_shows_its_reason_and_hurts_no_other(demo: Path) -> None:
    (demo / "typo.yaml").write_text("policy: typo\nsorce: {path: /x}\nrepository: {url: /y}\n")
    (demo / "endless.yaml").write_text(
        "policy: endless\nsource: {path: /x}\nrepository: {url: /y}\nschedule: {cron: '@daily', catchup: true}\n"
    )
    bag = parse()
    assert sorted(bag.dags) == sorted(FROZEN)
    assert list(bag.import_errors) == ["policies.py"]
    reasons = bag.import_errors["policies.py"]
    assert "typo.yaml:2: unknown key 'sorce'; did you mean 'source'?" in reasons
    assert "endless.yaml:4: 'schedule': `catchup` needs a `start`" in reasons


def test_a_task_builds_its_own_dag_only(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (demo / "other.yaml").write_text("policy: other\nsource: {path: /x}\nrepository: {url: /y}\n")
    assert {"backup__demo", "backup__other"} <= set(parse().dags)
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "backup__other")
    assert "backup__demo" not in parse().dags


def test_every_pool_of_a_task_is_made_and_restore_goes_first(demo: Path) -> None:
    dags = parse().dags
    pools = {task.pool for name in ("backup__demo", "restore") for task in dags[name].tasks}
    assert pools == {pool.name for pool in POOLS}
    readers = [task.task_id for task in dags["backup__demo"].tasks if task.pool == "backup_read"]
    assert readers == ["open", "list", "copy"]
    assert {str(task.weight_rule) for name in ("backup__demo", "restore") for task in dags[name].tasks} == {"absolute"}
    backup, restore = ([task.priority_weight for task in dags[name].tasks] for name in ("backup__demo", "restore"))
    assert max(backup) < min(restore)


def test_without_any_policy_the_two_forms_are_still_there(policies: Path) -> None:
    bag = parse()
    assert bag.import_errors == {}
    assert sorted(bag.dags) == ["repository_probe", "restore"]


def test_parsing_loads_nothing_heavy(demo: Path) -> None:
    code = (
        "import runpy, sys\n"
        "for name in ('backup', 'drill', 'restore', 'policies'):\n"
        f"    runpy.run_path({str(ROOT / 'dags')!r} + '/' + name + '.py')\n"
        f"print(*[name for name in {HEAVY} if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "include")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_only_transient_errors_are_tried_again() -> None:
    policy = retry_policy()

    def decide(error: Exception) -> RetryAction:
        return policy.evaluate(error, try_number=1, max_tries=4).action

    assert decide(StoreUnavailable("busy")) is RetryAction.RETRY
    assert decide(DamagedObject("flipped")) is RetryAction.FAIL
    assert decide(GateRefused("too much")) is RetryAction.FAIL
    assert decide(ValueError("a defect, or something of Airflow's")) is RetryAction.DEFAULT
