"""A store in an S3 bucket; the only module that uses obstore.

Every object is one conditional PUT (`If-None-Match: *`), never a multipart upload, where servers are known to ignore
the condition. The SDK's own retries are off: `retry` does that, where an ambiguous answer can be cleared up.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store as Client

from moraine.errors import ConfigError, ObjectExists, ObjectNotFound, StoreError, StoreUnavailable
from moraine.model.record import dataclass
from moraine.stores.base import Buffer, ObjectInfo
from moraine.stores.names import check_key, check_prefix, is_key
from moraine.stores.s3_errors import failure

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ClientConfig, S3Config, S3Credential

    Credentials = Callable[[], S3Credential]  # asked again now and then

_PAGE = 1000
_BULK = 1 << 20
# botocore renews credentials 10 minutes before they end, so that what it hands out is good for at least that long.
_CREDENTIALS_LIFE = timedelta(minutes=10)


class AwsSession(Protocol):
    """What is used of a `boto3.Session`."""

    @property
    def region_name(self) -> str | None:
        """The session's region."""

    def get_credentials(self) -> Any:
        """Where its credentials come from."""


@dataclass(frozen=True)
class _Clients:
    """Two clients with the same credentials. The read timeout also runs while a body is sent."""

    quick: Client
    bulk: Client  # without read timeout, for large bodies


class S3Store:
    """Objects in a bucket, addressed by path; over plain http only when the endpoint's URL says so.

    Credentials that the server calls expired or unknown are made anew once per refusal. Where that gives others, the
    failed call is reported as one that may go through when tried again.

    Not for use on both sides of a fork: the SDK's threads stay behind, so that a call would hang. It is refused.
    """

    at_once = 8  # requests: they wait for a network

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        credentials: Credentials,
        renew: Callable[[], Credentials] | None = None,
        region: str = "us-east-1",
        endpoint_url: str | None = None,
        root_certificate: bytes | None = None,
    ) -> None:
        # A whole store may be hidden, as that of a mirror is; names in it are not.
        check_prefix(prefix and re.sub(r"(^|/)\.", r"\1", prefix) + "/")
        self.url = f"s3://{bucket}/{prefix}".removesuffix("/")
        self._connect = _connector(bucket, prefix, region, endpoint_url or _aws_endpoint(region), root_certificate)
        self._renew = renew
        self._credentials, self._clients = credentials, self._connect(credentials)
        self._renewing = threading.Lock()

    def put(self, key: str, data: Buffer) -> None:
        """Create an object by one conditional PUT. Raises ObjectExists."""
        try:
            with self._call("write", key) as clients:
                client = clients.bulk if memoryview(data).nbytes > _BULK else clients.quick
                obstore.put(client, key, data, mode="create", use_multipart=False)
        except ObjectExists as error:
            # 409 says that another request for this key is under way, not how that one will end.
            if error.context["status"] == 409 and not self._exists(key):
                raise StoreUnavailable(f"{self.url}: {key} is being written", hint="try again", object=key) from error
            raise

    def get(self, key: str) -> bytes:
        """The whole object. Raises ObjectNotFound."""
        with self._call("read", key) as clients:
            return obstore.get(clients.quick, key).bytes().to_bytes()

    def get_range(self, key: str, start: int, length: int) -> Buffer:
        """A part of it, shorter only where the object ends. Raises ObjectNotFound."""
        if length <= 0:  # HTTP has no empty range
            self.head(key)
            return b""
        try:
            with self._call("read", key) as clients:
                # As the SDK holds it: a copy would double what a restore has in memory.
                return memoryview(obstore.get_range(clients.quick, key, start=start, length=length))
        except StoreError as error:
            if error.context.get("status") == 416:  # begins where the object ends, or later
                return b""
            raise

    def head(self, key: str) -> ObjectInfo:
        """Size and time. Raises ObjectNotFound."""
        with self._call("look at", key) as clients:
            return _info(obstore.head(clients.quick, key))

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[ObjectInfo]:
        """Objects under `prefix` in the byte order that S3 lists in, a page at a time."""
        check_prefix(prefix)
        if after is not None:
            check_key(after)
        return self._pages(prefix, after)

    def delete(self, key: str) -> None:
        """Remove an object; in a bucket with versions that hides it."""
        with contextlib.suppress(ObjectNotFound), self._call("delete", key) as clients:
            obstore.delete(clients.quick, key)

    def _pages(self, prefix: str, after: str | None) -> Iterator[ObjectInfo]:
        with self._call("list", prefix, check=False) as clients:
            stream = iter(obstore.list(clients.quick, prefix or None, offset=after, chunk_size=_PAGE))
        while True:
            with self._call("list", prefix, check=False):
                page = next(stream, None)
            if page is None:
                return
            # Folders that a console made are objects named like them, which are not ours.
            yield from (_info(meta) for meta in page if is_key(meta["path"]))

    def _exists(self, key: str) -> bool:
        try:
            self.head(key)
        except ObjectNotFound:
            return False
        return True

    @contextlib.contextmanager
    def _call(self, verb: str, key: str, *, check: bool = True) -> Iterator[_Clients]:
        """Around each call of the SDK: a key that is one, this process, credentials that hold, an error of ours."""
        if check:
            check_key(key)
        _stay_in_process(self.url)
        clients = self._clients
        try:
            yield clients
        except (BaseError, OSError) as error:
            found = failure(error, verb=verb, key=key, url=self.url)
            if found.context.get("outdated") and self._renewed(clients):
                raise StoreUnavailable(f"{found.message}; the credentials were renewed", hint="try again") from error
            raise found from error

    def _renewed(self, used: _Clients) -> bool:
        """Whether there are other credentials by now than those that were refused."""
        with self._renewing:
            if self._clients is not used:  # by another thread, while we waited
                return True
            credentials = self._renew() if self._renew else None
            if credentials is None or _keys(credentials()) == _keys(self._credentials()):
                return False
            self._credentials, self._clients = credentials, self._connect(credentials)
            return True


def key_credentials(access_key: str, secret_key: str, token: str | None) -> Credentials:
    """Credentials that stay as they are."""
    credential: S3Credential = {
        "access_key_id": access_key,
        "secret_access_key": secret_key,
        "token": token,
        "expires_at": None,
    }
    return lambda: credential


def session_credentials(session: AwsSession) -> Credentials:
    """Credentials of a boto3 session, asked for again before they end. Raises ConfigError."""
    from obstore.auth.boto3 import Boto3CredentialProvider  # imports boto3, which takes its time

    try:
        return Boto3CredentialProvider(session, ttl=_CREDENTIALS_LIFE)
    except ValueError as error:
        raise ConfigError(
            "no AWS credentials were found", hint="name an Airflow connection, or set AWS_PROFILE or AWS_ACCESS_KEY_ID"
        ) from error


def chain_credentials(profile: str | None) -> Credentials:
    """Credentials found by the AWS chain: environment, profile, container, instance. Raises ConfigError."""
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        return session_credentials(boto3.Session(profile_name=profile))
    except BotoCoreError as error:
        raise ConfigError(f"AWS credentials: {error}", hint="look at AWS_PROFILE and ~/.aws") from error


def _connector(
    bucket: str, prefix: str, region: str, endpoint: str, root_certificate: bytes | None
) -> Callable[[Credentials], _Clients]:
    """What makes the clients, with these credentials and then with others."""
    config: S3Config = {
        "endpoint": endpoint,
        "region": region,
        "disable_bulk_delete": True,
        # The SDK would take these from the environment.
        "virtual_hosted_style_request": False,
        "skip_signature": False,
        "unsigned_payload": False,
        "conditional_put": "etag",
    }
    options: ClientConfig = {
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": "5s",
        "timeout": "10m",
        "user_agent": "moraine",
    }
    if root_certificate is not None:
        options["root_certificate"] = root_certificate

    def client(credentials: Credentials, options: ClientConfig) -> Client:
        return Client(
            bucket,
            prefix=prefix or None,
            config=config,
            client_options=options,
            retry_config={"max_retries": 0},
            credential_provider=credentials,
        )

    def connect(credentials: Credentials) -> _Clients:
        return _Clients(client(credentials, {**options, "read_timeout": "60s"}), client(credentials, options))

    return connect


def _keys(credential: S3Credential) -> tuple[str, str | None]:
    return credential["access_key_id"], credential.get("token")


def _aws_endpoint(region: str) -> str:
    return f"https://s3.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")


def _info(meta: ObjectMeta) -> ObjectInfo:
    return ObjectInfo(meta["path"], meta["size"], meta["last_modified"])


_process: int | None = None  # where the SDK's threads run


def _stay_in_process(url: str) -> None:
    global _process
    if _process is None:
        _process = os.getpid()
    elif _process != os.getpid():
        raise StoreError(
            f"{url} was used before this process was forked", hint="fork first, or start the process by spawn"
        )
