"""A run that is cleared from its first task on, when there is less to copy than before."""

from __future__ import annotations

import pytest
from airflow.serialization.serialized_objects import DagSerialization

from airflow_runs import go_on, run, states
from compare import compare_trees
from moraine.errors import DamagedObject
from test_runs import Place, fail_once, place  # noqa: F401  a fixture


def test_parts_of_the_attempt_before_do_not_count(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    fail_once(monkeypatch, DamagedObject("a flipped bit"), shard=1)
    dag = place.dag(shards={"copy_files": 10})
    broken = run(dag)
    before = states(broken)
    assert before["copy[0]"] == "success 1" and before["copy[2]"] == "success 1"
    for file in sorted(place.source.glob("*/*"))[2:]:
        file.unlink()
    DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag)).clear(run_id=broken.run_id)
    assert go_on(dag, broken) == "success"
    after = states(broken)
    assert after["copy[0]"] == "success 2"
    assert after["copy[2]"].startswith("removed")
    place.restore()
    assert compare_trees(place.source, place.folder / "restored") == []
    assert len(place.repository.state.live()) == 1
