"""A table of 5 GiB, larger than memory may be: checked by a suite of a policy in less than 1 GiB."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

SIZE = int(os.environ.get("MORAINE_TEST_TABLE_BYTES", 5 << 30))
MOST_MEMORY = 1 << 30
PAYLOAD = 200  # bytes of a row that do not compress

SUITE = {
    "name": "large",
    "expectations": [
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "id"}},
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "price", "min_value": 0, "max_value": 1}},
        {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "kind", "value_set": ["a", "b", "c"]}},
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "payload"}},
        {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1000}},
        {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "payload"}},
    ],
}

CHILD = """
import json, sys, time
from pathlib import Path
from memory import own_peak
from moraine.proof import data_set_rows, data_set_validate
from moraine.proof.data_sets import DataSet, validate_data_set
folder = Path(sys.argv[1])
data_set_rows.SUITES = folder / "expectations"
data_set = DataSet.from_dict(json.loads((folder / "set.json").read_text()))
started = time.time()
verdict = validate_data_set(folder / "tree", data_set, scratch=folder, docs=folder / "docs")
print(json.dumps(verdict.to_dict() | {"peak": own_peak(), "seconds": time.time() - started}))
"""


def write_table(path: Path, size: int) -> int:
    """A table in few large row groups, as writers with much memory leave it; its rows."""
    rng = np.random.default_rng(1)
    rows, step = size // (PAYLOAD + 24), 1 << 18
    schema = pa.schema({"id": pa.int64(), "price": pa.float64(), "kind": pa.string(), "payload": pa.binary(PAYLOAD)})
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=["kind"]) as writer:
        for group in range(0, rows, 4 * step):
            pieces = []
            for start in range(group, min(rows, group + 4 * step), step):
                count = min(step, rows - start)
                payload = pa.FixedSizeBinaryArray.from_buffers(
                    pa.binary(PAYLOAD), count, [None, pa.py_buffer(rng.bytes(count * PAYLOAD))]
                )
                kinds = pa.array(np.array(["a", "b", "c"])[rng.integers(0, 3, count)])
                ids = pa.array(np.arange(start, start + count))
                pieces.append(pa.table([ids, pa.array(rng.random(count)), kinds, payload], schema=schema))
            writer.write_table(pa.concat_tables(pieces), row_group_size=4 * step)
    return rows


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_table_larger_than_memory(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "expectations").mkdir()
    (tmp_path / "expectations/large.json").write_text(json.dumps(SUITE))
    table = tmp_path / "tree/large.parquet"
    try:
        rows = write_table(table, SIZE)
        size = table.stat().st_size
        assert size >= SIZE * 0.9
        recorded = {"files": 1, "bytes": size, "tables": {}, "broken": {}, "tables_left_out": 0}
        described = {
            "name": "large", "kind": "parquet", "snapshot": "S", "paths": ["**"], "endings": [], "without": [],
            "recorded": recorded, "rules": {"expectations": ["large"]}, "whole": True,
        }  # fmt: skip
        (tmp_path / "set.json").write_text(json.dumps(described))
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(tmp_path)], capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": "include:tests"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
        print(f"{size / 2**30:.1f} GiB, {rows:,} rows: {found['seconds']:.0f} s, {found['peak'] / 2**20:.0f} MiB")
        assert found["passed"], found["checks"]
        counted = {check["name"]: check["found"] for check in found["checks"]}
        assert counted["expect_column_values_to_be_between"] == f"all {rows:,}"
        assert [text for text in found["not_proven"] if "whole columns" in text]
        assert found["peak"] < MOST_MEMORY
    finally:
        table.unlink(missing_ok=True)
