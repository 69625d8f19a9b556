"""How long the dag processor is busy with 200 policies: `PYTHONPATH=include python tests/bench/parse.py [COUNT]`."""

from __future__ import annotations

import os
import runpy
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
POLICY = """
policy: p{0:04}
source: {{path: /srv/lake/{0}, exclude: ["*.tmp"]}}
repository: {{url: s3://backups/moraine, connection: aws}}
schedule: {{cron: "{1} 2 * * *"}}
keep: {{daily: 7, weekly: 5}}
"""


def main(count: int) -> None:
    """Parse every DAG file three times; seconds on the wall and of the processor."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            Path(folder, f"p{number:04}.yaml").write_text(POLICY.format(number, number % 60))
        os.environ.update(MORAINE_POLICIES=folder, AIRFLOW_HOME=f"{folder}/airflow")
        import airflow.sdk  # noqa: F401  what the dag processor has loaded already

        for _ in range(3):
            for file in sorted((ROOT / "dags").glob("*.py")):
                wall, busy = time.perf_counter(), time.process_time()
                runpy.run_path(str(file))
                spent = time.perf_counter() - wall, time.process_time() - busy
                print(f"{file.name:<18} {spent[0]:6.3f} s   {spent[1]:6.3f} s of processor")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
