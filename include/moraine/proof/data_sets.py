"""Data checks on what was restored: which data sets there are, and what Great Expectations says of each.

The front of the modules `data_set*`: drills import from here.
"""

from __future__ import annotations

from moraine.proof.data_set import CheckResult, DataSet, DataSetVerdict
from moraine.proof.data_set_plan import plan_data_sets
from moraine.proof.data_set_validate import validate_data_set

__all__ = ["CheckResult", "DataSet", "DataSetVerdict", "plan_data_sets", "validate_data_set"]
