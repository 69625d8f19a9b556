"""The DAG that tests where snapshots would go: from a form, before a policy is written or when one does not work."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, task

from moraine.errors import ConfigError
from moraine.model.policy import RepositoryAddress
from moraine.workflows.policies import find_policy
from moraine.workflows.pools import WRITE
from moraine.workflows.retry import task_defaults
from moraine.workflows.task_context import Json, parameter
from moraine.workflows.task_log import log, told

_PAGE = """
Says in words what a store can and cannot do, with the connection, endpoint and credentials that a backup would use:
run it before the first backup, after a change of the server or of its rights, and when a backup cannot write.

It writes a few small objects under `probe/` and deletes them again. Nothing else is touched. The log of the task
**probe** has a line for each capability. Where a policy is chosen and its repository is there, the passphrase is tried
too. The button *Test* beside a connection asks AWS who the connection is; it knows no bucket.

The same by command line, without Airflow: `./moraine repo probe s3://bucket/prefix`.
"""


def build_probe_dag(policies: Sequence[str]) -> DAG:
    """probe."""
    with DAG(
        "repository_probe",
        description="test the store of a repository",
        doc_md=_PAGE,
        schedule=None,
        dagrun_timeout=timedelta(hours=1),
        default_args={**task_defaults("moraine"), "pool": WRITE.name},
        tags=["moraine", "probe"],
        params=_form(policies),
    ) as dag:
        task(task_id="probe", multiple_outputs=False)(told(probe))()
    return dag


def probe() -> Json:
    """Try the store, and the passphrase where there is a repository."""
    from moraine.report.probe import probe as execute
    from moraine.workflows.connections import open_address, open_repository

    address = _address()
    found = execute(open_address(address), os.urandom)
    for line in found.lines():
        log.info("%s", line)
    if found.unfit:
        raise found.unfit
    opened = found.repository and parameter("policy") is not None
    if opened:
        log.info("the passphrase opens repository %s", open_repository(address).config.id)
    return {**found.to_dict(), "opened": opened}


def _address() -> RepositoryAddress:
    policy, url = parameter("policy"), parameter("url")
    if policy and not url:
        return find_policy(policy).repository
    if url and not policy:
        return RepositoryAddress(url=url, connection=parameter("connection") or None)
    raise ConfigError("say either a policy or an address", hint="fill in one of the two fields, and leave the other")


def _form(policies: Sequence[str]) -> dict[str, Param]:
    known: dict[str, Any] = {"enum": [None, *policies]} if policies else {}
    return {
        "policy": Param(
            None, **known, type=["null", "string"], title="Policy", description="Test the repository it names."
        ),
        "url": Param(
            None,
            type=["null", "string"],
            title="Or: an address",
            description="s3://bucket/prefix, or a path of the worker.",
        ),
        "connection": Param(
            None,
            type=["null", "string"],
            title="AWS connection",
            description="For an address in S3; none: the credentials of the worker itself.",
        ),
    }
