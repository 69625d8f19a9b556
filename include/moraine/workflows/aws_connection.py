"""An AWS connection of Airflow as stores and sources need it: a session, an endpoint, a region, a certificate.

Extras are allow-listed: a connection's editor chooses who we are to S3 and where S3 is, nothing else. Extras that mean
something to other users of the connection are left alone, and the log names them; never what they hold.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret

from moraine.errors import ConfigError
from moraine.model.record import dataclass
from moraine.stores.aws_login import aws_login

log = logging.getLogger("moraine")

OURS = frozenset({"endpoint_url", "passphrase", "region_name", "service_config", "verify"})
LOGIN = frozenset(  # read by Airflow's own AWS hook, which makes the session
    {
        "assume_role_kwargs",
        "assume_role_method",
        "assume_role_with_saml",
        "assume_role_with_web_identity_federation",
        "assume_role_with_web_identity_federation_audience",
        "assume_role_with_web_identity_token_file",
        "aws_access_key_id",
        "aws_secret_access_key",
        "aws_session_token",
        "profile_name",
        "role_arn",
        "session_kwargs",
    }
)


@dataclass(frozen=True)
class AwsPlace:
    """What a connection says about S3."""

    connection: str
    endpoint_url: str | None
    region: str | None
    certificate: str | None  # file of the authorities that may sign the endpoint's certificate

    def session(self) -> Any:
        """A boto3 session made anew: the connection is read again, a role is assumed again."""
        from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook  # slow, and wanted for S3 only

        logging.getLogger("botocore").setLevel(logging.INFO)  # at DEBUG it writes what STS answers, keys and all
        hook: Any = AwsBaseHook(aws_conn_id=self.connection, client_type="s3")
        with aws_login(f"connection {self.connection}"):
            session = hook.get_session()
            found = session.get_credentials()
            keys = found.get_frozen_credentials() if found else None
        if keys is None:
            raise ConfigError(
                f"connection {self.connection} holds no credentials, and none are found without it",
                hint="fill in its access key and secret key, or name a role or profile in its extras",
            )
        for secret in filter(None, (keys.secret_key, keys.token)):
            mask_secret(secret)
        return session

    @property
    def environ(self) -> Mapping[str, str]:
        """The certificate as stores and sources take it."""
        return {"AWS_CA_BUNDLE": self.certificate} if self.certificate else {}


def read_aws_connection(name: str) -> AwsPlace:
    """What the connection of this name says. Raises ConfigError."""
    connection = read_connection(name)
    if connection.conn_type not in ("aws", "", None):
        raise ConfigError(
            f"connection {name} is of the type {connection.conn_type!r}, and S3 takes one of the type 'aws'",
            hint="choose Amazon Web Services as its type",
        )
    extra = connection.extra_dejson
    unused = sorted(extra.keys() - OURS - LOGIN)
    if unused:
        log.warning("connection %s: these extras mean nothing to Moraine: %s", name, ", ".join(unused))
    services = extra.get("service_config") or {}
    return AwsPlace(
        name,
        (services.get("s3") or {}).get("endpoint_url") or extra.get("endpoint_url"),
        extra.get("region_name"),
        _certificate(name, extra.get("verify", True)),
    )


def read_connection(name: str) -> Connection:
    """The connection of this name. Raises ConfigError where there is none: AWS hooks would go on without."""
    try:
        return BaseHook.get_connection(name)
    except AirflowNotFoundException as error:
        raise ConfigError(
            f"there is no Airflow connection {name!r}", hint="make it on the page Admin → Connections, or in a backend"
        ) from error


def _certificate(name: str, verify: object) -> str | None:
    if isinstance(verify, str):
        return verify
    if verify is not True:
        raise ConfigError(
            f"connection {name} switches the check of certificates off",
            hint="give `verify` the file of the authority that signed the server's certificate",
        )
    return None
