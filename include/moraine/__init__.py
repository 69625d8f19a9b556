"""Moraine: backup and disaster recovery for data teams, as Airflow DAGs."""

__version__ = "0.1.0"
