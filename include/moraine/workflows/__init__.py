"""The Airflow-aware package: DAG builders, task functions, connections, and running Airflow from a checkout.

Every task is a thin caller of one step. Modules are imported by name, so that parsing a DAG file loads little.
"""
