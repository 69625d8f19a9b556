"""From where somebody wants a snapshot to the target that writes there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from moraine.errors import ConfigError
from moraine.model.snapshot import Snapshot
from moraine.repository.repository import Repository
from moraine.sources.target import Target

_S3 = "s3://"


def open_target(
    place: str,
    repository: Repository,
    snapshot: Snapshot,
    *,
    delete: bool = False,
    markers: bool = False,
    storage_class: str | None = None,
    **connected: Any,
) -> Target:
    """The target of a restore; nothing is looked at yet.

    Args:
        place: a directory, or s3://bucket/prefix.
        repository: where the snapshot is; it must not lie in the way.
        snapshot: what is restored: of a bucket or of a directory, which makes different keys.
        delete: whether extras will be deleted.
        markers: in S3, an empty object for each directory of a tree.
        storage_class: in S3, of new objects.
        connected: how a bucket is reached, see `connect`.

    Raises:
        ConfigError: the place is none, or is one with the repository.
    """
    if place.startswith(_S3):
        bucket, prefix = _bucket_of(place)
        _stay_apart(place, repository.store.url, delete=delete)
        from moraine.sources.s3_target import S3Target

        return S3Target(
            bucket,
            prefix,
            client=partial(connect, **connected),
            objects=snapshot.source.startswith(_S3),
            markers=markers,
            storage_class=storage_class,
        )
    if markers or storage_class:
        raise ConfigError("directory markers and storage classes are for buckets", hint="leave them out")
    from moraine.sources.posix_target import PosixTarget

    return PosixTarget(os.path.abspath(place))


def connect(
    *,
    session: Any | None = None,
    renew: Callable[[], Any] | None = None,
    environ: Mapping[str, str] | None = None,
    endpoint_url: str | None = None,
    region: str | None = None,
) -> Any:
    """A client for a target in S3.

    Args:
        session: a boto3 session.
        renew: makes it anew when its credentials have ended.
        environ: where AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL … are looked up without one.
        endpoint_url: the S3 server.
        region: the bucket's region.
    """
    from moraine.sources.s3_client import open_client

    return open_client(session=session, renew=renew, environ=environ or {}, region=region, endpoint_url=endpoint_url)


def _bucket_of(place: str) -> tuple[str, str]:
    """Bucket and prefix, byte for byte what follows the bucket and a slash."""
    bucket, _, prefix = place.removeprefix(_S3).partition("/")
    if not bucket or "@" in bucket:
        raise ConfigError(
            "a target in S3 is s3://bucket/prefix", hint="credentials come from a connection, a profile or AWS_*"
        )
    return bucket, prefix


def _stay_apart(place: str, repository: str, *, delete: bool) -> None:
    """A repository inside its target would be deleted as an extra, a target inside it be taken for garbage."""
    inner, outer = (f"{url.rstrip('/')}/" for url in (place, repository))
    if repository.startswith(_S3) and (inner.startswith(outer) or (delete and outer.startswith(inner))):
        raise ConfigError(
            f"the target {place} and the repository {repository} lie one inside the other",
            hint="restore to another prefix or bucket",
        )
