"""From a policy and Airflow connections to an opened repository and its source. The only place that reads connections.

Extras are allow-listed: a connection's editor chooses credentials, endpoint, region and passphrase, nothing else.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from airflow.sdk import BaseHook, Connection

from moraine.errors import ConfigError
from moraine.model.policy import Mirror, Policy, RepositoryAddress
from moraine.repository.repository import Repository
from moraine.sources.base import Source
from moraine.steps.passphrase import read_passphrase
from moraine.steps.source import open_source
from moraine.stores.base import Store
from moraine.stores.open import open_store

_PLACES = {"endpoint_url": "endpoint_url", "region": "region_name"}  # key of a source → extra of a connection


@cache
def open_repository(address: RepositoryAddress) -> Repository:
    """The repository of a policy, opened once in a process; read the log anew where that matters.

    Raises:
        ConfigError: neither a passphrase file nor a connection holds the passphrase.
        NotARepository, WrongPassphrase, AccessDenied and what else opening may raise.
    """
    return Repository.open(policy_store(address), lambda: _passphrase(address), entropy=os.urandom)


def open_policy_source(policy: Policy) -> Source:
    """The source of a policy; one in S3 takes its credentials from a connection, or from the ordinary AWS chain."""
    source = policy.source
    if source.kind != "s3" or not source.connection:
        return open_source(policy, environ=os.environ)
    session, extra = _session(source.connection)
    named = {key: getattr(source, key) or extra.get(name) for key, name in _PLACES.items()}
    return open_source(policy.model_copy(update={"source": source.model_copy(update=named)}), session=session)


def mirror_session(mirror: Mirror) -> tuple[Any | None, dict[str, Any]]:
    """The boto3 session of a mirror's connection, and where that says the bucket is; nothing without one."""
    if not mirror.connection or not mirror.url.startswith("s3://"):
        return None, {}
    session, extra = _session(mirror.connection)
    return session, {key: getattr(mirror, key) or extra.get(name) for key, name in _PLACES.items()}


def _session(connection: str) -> tuple[Any, dict[str, Any]]:
    """A boto3 session with the credentials of a connection, and the connection's extras."""
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook  # slow, and wanted for S3 only

    hook: Any = AwsBaseHook(aws_conn_id=connection, client_type="s3")
    return hook.get_session(), BaseHook.get_connection(connection).extra_dejson


def policy_store(address: RepositoryAddress) -> Store:
    """The store of a policy: a local path needs no connection, S3 takes the ordinary AWS chain or a connection."""
    if not address.connection or not address.url.startswith("s3://"):
        return open_store(address.url, endpoint_url=address.endpoint_url, region=address.region, environ=os.environ)
    session, extra = _session(address.connection)
    return open_store(
        address.url,
        endpoint_url=address.endpoint_url or extra.get("endpoint_url"),
        region=address.region or extra.get("region_name"),
        session=session,
    )


def _passphrase(address: RepositoryAddress) -> bytes:
    if address.passphrase_file:
        return read_passphrase(address.passphrase_file)
    secret = _secret(BaseHook.get_connection(address.connection)) if address.connection else None
    if not secret:
        raise ConfigError(
            f"the repository {address.url} is encrypted and the policy names no passphrase",
            hint="set repository.passphrase_file, or put `passphrase` into the extras of repository.connection",
        )
    return secret.encode()


def _secret(connection: Connection) -> str | None:
    """The extra `passphrase`; the password too, where it is no AWS secret key."""
    extra: str | None = connection.extra_dejson.get("passphrase")
    return extra or (connection.password if connection.conn_type != "aws" else None)
