"""From a policy and an Airflow connection to an opened repository. The only place that reads connections.

Extras are allow-listed: a connection's editor chooses credentials, endpoint, region and passphrase, nothing else.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from airflow.sdk import BaseHook, Connection

from moraine.errors import ConfigError
from moraine.model.policy import RepositoryAddress
from moraine.repository.repository import Repository
from moraine.steps.passphrase import read_passphrase
from moraine.stores.base import Store
from moraine.stores.open import open_store


@cache
def open_repository(address: RepositoryAddress) -> Repository:
    """The repository of a policy, opened once in a process; read the log anew where that matters.

    Raises:
        ConfigError: neither a passphrase file nor a connection holds the passphrase.
        NotARepository, WrongPassphrase, AccessDenied and what else opening may raise.
    """
    return Repository.open(_store(address), lambda: _passphrase(address), entropy=os.urandom)


def _store(address: RepositoryAddress) -> Store:
    """The store of a policy: a local path needs no connection, S3 takes the ordinary AWS chain or a connection."""
    if not address.connection or not address.url.startswith("s3://"):
        return open_store(address.url, endpoint_url=address.endpoint_url, region=address.region, environ=os.environ)
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook  # slow, and wanted for S3 only

    hook: Any = AwsBaseHook(aws_conn_id=address.connection, client_type="s3")
    extra = BaseHook.get_connection(address.connection).extra_dejson
    return open_store(
        address.url,
        endpoint_url=address.endpoint_url or extra.get("endpoint_url"),
        region=address.region or extra.get("region_name"),
        session=hook.get_session(),
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
