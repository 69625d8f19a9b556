"""From an address to a store: a path, file:///…, s3://bucket/prefix or memory://name.

Here alone are the clock and the dice of retries chosen. A local store imports no SDK, and next to nothing else: it is
opened before the program is loaded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from moraine.errors import ConfigError
from moraine.model.record import dataclass
from moraine.stores.base import Store
from moraine.stores.local import LocalStore
from moraine.stores.memory import MemoryStore

if TYPE_CHECKING:
    from moraine.stores.metered import Meter
    from moraine.stores.s3 import AwsSession, Credentials

_memory: dict[str, MemoryStore] = {}
_memory_lock = threading.Lock()


def open_store(
    url: str,
    *,
    endpoint_url: str | None = None,
    session: AwsSession | None = None,
    renew: Callable[[], AwsSession] | None = None,
    region: str | None = None,
    environ: Mapping[str, str] | None = None,
    patience: float = 60.0,
    meter: Meter | None = None,
) -> Store:
    """The store at an address. Nothing is read or written yet.

    Args:
        url: a path, `file:///path`, `s3://bucket/prefix` or `memory://name` (shared by the whole process).
        endpoint_url: of an S3 service that is not AWS.
        session: a boto3 session that has credentials and perhaps a region.
        renew: makes another one like it, when the store says that its credentials have expired.
        region: of the bucket; else the session's, the environment's, us-east-1.
        environ: where AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_PROFILE, AWS_REGION,
            AWS_ENDPOINT_URL and AWS_CA_BUNDLE are looked up. Without a session or keys the AWS chain finds some.
        patience: seconds for which a remote store that fails in passing is tried again.
        meter: counts what a remote store is asked, each try of a request for itself.

    Raises:
        ConfigError: the address or the credentials cannot be used.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return _open_path(url)
    if scheme == "file":
        return _open_file(url)
    if scheme == "memory":
        with _memory_lock:
            return _memory.setdefault(rest, MemoryStore(rest))
    if scheme == "s3":
        login = _Login(session, renew, environ or {})
        return _open_s3(url, endpoint_url, login, region, patience, meter)
    raise ConfigError(
        f"{scheme}:// is no kind of store",
        hint="use a path, file:///path, s3://bucket/prefix or memory://name",
        url=url,
    )


def _open_path(path: str) -> Store:
    if not path or path.startswith("~"):
        raise ConfigError(f"{path!r} is not the path of a store", hint="write the whole path; ~ means nothing here")
    return LocalStore(path)


def _open_file(url: str) -> Store:
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise ConfigError(f"{url} names another host", hint="write file:///path, with three slashes", url=url)
    return _open_path(unquote(parts.path))


def _open_s3(
    url: str,
    endpoint_url: str | None,
    login: _Login,
    region: str | None,
    patience: float,
    meter: Meter | None,
) -> Store:
    import random
    import time
    from urllib.parse import urlsplit

    from moraine.stores.metered import MeteredStore
    from moraine.stores.retry import Patience, RetryingStore
    from moraine.stores.s3 import S3Store

    parts = urlsplit(url)
    if not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            "an S3 address is s3://bucket/prefix",
            hint="credentials come from a connection, a profile or AWS_* variables",
        )
    environ = login.environ
    bundle = environ.get("AWS_CA_BUNDLE")
    store = S3Store(
        parts.netloc,
        parts.path.strip("/"),
        credentials=login.credentials(login.session),
        renew=login.again,
        region=region or (login.session and login.session.region_name) or _region(environ),
        endpoint_url=endpoint_url or environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL"),
        root_certificate=_read_bundle(bundle) if bundle else None,
    )
    counted = MeteredStore(store, meter) if meter else store
    return RetryingStore(counted, Patience(time.sleep, time.monotonic, random.random, budget=patience))


def _region(environ: Mapping[str, str]) -> str:
    return environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1"


@dataclass(frozen=True)
class _Login:
    """Where credentials come from: a session, keys in the environment, or the AWS chain."""

    session: AwsSession | None
    renew: Callable[[], AwsSession] | None
    environ: Mapping[str, str]

    def credentials(self, session: AwsSession | None) -> Credentials:
        from moraine.stores.s3 import chain_credentials, key_credentials, session_credentials

        if session is not None:
            return session_credentials(session)
        access_key, secret_key = self.environ.get("AWS_ACCESS_KEY_ID"), self.environ.get("AWS_SECRET_ACCESS_KEY")
        if access_key and secret_key:
            return key_credentials(access_key, secret_key, self.environ.get("AWS_SESSION_TOKEN"))
        return chain_credentials(self.environ.get("AWS_PROFILE"))

    def again(self) -> Credentials:
        """Looked up once more: a role assumed anew, a profile that was written meanwhile."""
        from moraine.stores.aws_login import aws_login

        with aws_login("renewing expired credentials"):
            return self.credentials(self.renew() if self.renew else self.session)


def _read_bundle(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"cannot read AWS_CA_BUNDLE {path}: {error.strerror}", hint="correct or unset it") from error
