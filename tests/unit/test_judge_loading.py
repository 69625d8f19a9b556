"""What the judge loads, and that what it loads late is there when an expectation needs it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CHILD = """
import sys
import pyarrow as pa
from moraine.proof.expectations import Judge

def passes(kind, **kwargs):
    judge = Judge({"name": "s", "expectations": [{"type": kind, "kwargs": {"column": "c", **kwargs}}]})
    passed = judge.judge(pa.table({"c": ["a", "b"] * 50}), str)
    assert not judge.findings[0].error, judge.findings[0].error
    return passed

def loaded():
    return "scipy.stats._stats_py" in sys.modules

assert passes("expect_column_values_to_not_be_null")
assert not loaded()
shares = {"values": ["a", "b"], "weights": [0.5, 0.5]}
assert passes("expect_column_kl_divergence_to_be_less_than", partition_object=shares, threshold=0.1)
assert loaded()
shares["weights"] = [0.99, 0.01]
assert not passes("expect_column_kl_divergence_to_be_less_than", partition_object=shares, threshold=0.1)
"""


@pytest.mark.parametrize("before", ["", "import scipy.stats\n"])
def test_statistics_are_loaded_when_an_expectation_uses_them(before: str) -> None:
    child = before + (CHILD.replace("assert not loaded()", "") if before else CHILD)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", child], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
