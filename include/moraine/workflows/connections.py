"""From a policy and Airflow connections to an opened repository, its source, and the target of a restore."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache

from airflow.sdk import Connection

from moraine.errors import ConfigError
from moraine.model.policy import Policy, RepositoryAddress
from moraine.model.snapshot import Snapshot
from moraine.repository.repository import Repository
from moraine.sources.base import Source
from moraine.sources.target import Target
from moraine.steps.passphrase import read_passphrase
from moraine.steps.source import open_source
from moraine.steps.target import open_target
from moraine.stores.base import Store
from moraine.stores.metered import Meter
from moraine.stores.open import open_store
from moraine.workflows.aws_connection import read_aws_connection, read_connection

METER = Meter()  # of all stores of this process


@cache
def open_repository(address: RepositoryAddress) -> Repository:
    """The repository of a policy, opened once in a process; read the log anew where that matters.

    Raises:
        ConfigError: neither a passphrase file nor a connection holds the passphrase.
        NotARepository, WrongPassphrase, AccessDenied and what else opening may raise.
    """
    return Repository.open(open_address(address), lambda: _passphrase(address), entropy=os.urandom)


def open_policy_source(policy: Policy) -> Source:
    """The source of a policy; one in S3 takes its credentials from a connection, or from the ordinary AWS chain."""
    source = policy.source
    if source.kind != "s3" or not source.connection:
        return open_source(policy, environ=os.environ)
    place = read_aws_connection(source.connection)
    endpoint_url, region = source.endpoint_url or place.endpoint_url, source.region or place.region
    placed = replace(policy, source=replace(source, endpoint_url=endpoint_url, region=region))
    return open_source(placed, session=place.session(), renew=place.session, environ=place.environ)


def open_restore_target(
    place: str,
    repository: Repository,
    snapshot: Snapshot,
    *,
    connection: str | None,
    delete: bool,
    markers: bool,
    storage_class: str | None,
) -> Target:
    """The target of a restore; a bucket takes credentials and endpoint from a connection, or from the AWS chain."""
    named = read_aws_connection(connection) if connection else None
    return open_target(
        place,
        repository,
        snapshot,
        session=named.session() if named else None,
        renew=named.session if named else None,
        environ=named.environ if named else os.environ,
        endpoint_url=named.endpoint_url if named else None,
        region=named.region if named else None,
        delete=delete,
        markers=markers,
        storage_class=storage_class,
    )


def open_address(address: RepositoryAddress) -> Store:
    """The store of an address: a local path needs no connection, S3 takes the ordinary AWS chain or a connection."""
    if not address.connection or not address.url.startswith("s3://"):
        return open_store(
            address.url, endpoint_url=address.endpoint_url, region=address.region, environ=os.environ, meter=METER
        )
    place = read_aws_connection(address.connection)
    return open_store(
        address.url,
        endpoint_url=address.endpoint_url or place.endpoint_url,
        region=address.region or place.region,
        session=place.session(),
        renew=place.session,
        environ=place.environ,
        meter=METER,
    )


def _passphrase(address: RepositoryAddress) -> bytes:
    if address.passphrase_file:
        return read_passphrase(address.passphrase_file)
    secret = _secret(read_connection(address.connection)) if address.connection else None
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
