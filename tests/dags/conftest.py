"""A private Airflow home for each test process, made before Airflow is imported."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

assert "airflow" not in sys.modules, "Airflow was imported before its home was chosen"

HOME = tempfile.TemporaryDirectory(prefix="moraine-airflow-")  # removed when the process ends
ROOT = Path(__file__).resolve().parents[2]

for name in [name for name in os.environ if name.startswith(("AIRFLOW__", "AIRFLOW_CONFIG"))]:
    del os.environ[name]
os.environ.update(
    AIRFLOW_HOME=HOME.name,
    AIRFLOW__CORE__DAGS_FOLDER=str(ROOT / "dags"),
    AIRFLOW__CORE__PLUGINS_FOLDER=str(ROOT / "plugins"),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__UNIT_TEST_MODE="False",
    AIRFLOW__USAGE_DATA_COLLECTION__ENABLED="False",
    GX_ANALYTICS_ENABLED="false",
)


@pytest.fixture(scope="session", autouse=True)
def airflow_database() -> None:
    """The metadata database of this process."""
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def policies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that DAGs and tasks read their policies from."""
    folder = tmp_path / "policies"
    folder.mkdir()
    monkeypatch.setenv("MORAINE_POLICIES", str(folder))
    return folder
