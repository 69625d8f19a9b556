"""Moraine in Airflow's list of plugins.

Airflow imports every file of this folder under its bare name: keep it the only one.
"""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin


class MorainePlugin(AirflowPlugin):
    """What Moraine adds to Airflow's pages."""

    name = "moraine"
