"""From a policy to the mirror it names, and from a mirror's repository back to the mirror."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from moraine.errors import ConfigError
from moraine.model.policy import Mirror as MirrorDestination
from moraine.model.policy import Policy
from moraine.model.policy_mirror import STATE, mirror_url
from moraine.sources.mirror import Mirror
from moraine.sources.posix_mirror import PosixMirror


def open_mirror(
    policy: Policy,
    *,
    session: Any | None = None,
    renew: Callable[[], Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Mirror | None:
    """The mirror of a policy, None when it names a repository; nothing is looked at yet.

    Args:
        policy: names it.
        session: a boto3 session for a mirror in S3.
        renew: makes it anew when its credentials have ended.
        environ: where AWS_ACCESS_KEY_ID, AWS_PROFILE … are looked up without one.

    Raises:
        ConfigError: source and mirror lie one in the other.
    """
    if policy.destination is None:
        return None
    source = policy.source
    if source.kind == "posix":
        _require_apart(source.path, policy.destination.url)
    return _open(policy.destination, source.origin, environ or {}, session, renew)


def find_mirror(
    repository: str,
    origin: str,
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
    session: Any | None = None,
    environ: Mapping[str, str] | None = None,
) -> Mirror | None:
    """The mirror that the repository at an address belongs to; None when it is an ordinary repository.

    Args:
        repository: the address.
        origin: what snapshots name as their source.
        endpoint_url: of an S3 server that is not AWS.
        region: of its bucket.
        session: a boto3 session for a mirror in S3.
        environ: as in `open_mirror`.
    """
    url = mirror_url(repository)
    if url is None:
        return None
    destination = MirrorDestination(url=url, endpoint_url=endpoint_url, region=region)
    return _open(destination, origin, environ or {}, session)


def _open(
    destination: MirrorDestination,
    origin: str,
    environ: Mapping[str, str],
    session: Any | None,
    renew: Callable[[], Any] | None = None,
) -> Mirror:
    url = destination.url
    if url.startswith("s3://"):
        return _open_s3(destination, origin.startswith("s3://"), environ, session, renew)
    path = url.removeprefix("file://")
    if "://" in path or not path.startswith("/"):
        raise ConfigError(f"{url} is no place for a mirror", hint="use an absolute path or s3://bucket/prefix")
    return PosixMirror(path, STATE, must_be_mount=destination.must_be_mount)


def _open_s3(
    destination: MirrorDestination,
    from_bucket: bool,
    environ: Mapping[str, str],
    session: Any | None,
    renew: Callable[[], Any] | None,
) -> Mirror:
    from moraine.sources.s3_client import open_client
    from moraine.sources.s3_mirror import S3Mirror

    bucket, _, prefix = destination.url.removeprefix("s3://").partition("/")
    if not bucket or "@" in bucket:
        hint = "credentials come from a connection, a profile or AWS_* variables"
        raise ConfigError("a mirror in S3 is s3://bucket/prefix", hint=hint)
    return S3Mirror(
        bucket,
        prefix.strip("/"),
        STATE,
        from_bucket=from_bucket,
        client=lambda: open_client(
            session=session,
            renew=renew,
            environ=environ,
            region=destination.region,
            endpoint_url=destination.endpoint_url,
        ),
    )


def _require_apart(source: str, mirror: str) -> None:
    if mirror.startswith("s3://"):
        return
    one, other = os.path.realpath(source), os.path.realpath(mirror.removeprefix("file://"))
    if os.path.commonpath([one, other]) in (one, other):
        raise ConfigError(
            f"the mirror {other} and the source {one} lie one in the other",
            hint="a mirror removes what its source has not: choose a directory of its own",
        )
