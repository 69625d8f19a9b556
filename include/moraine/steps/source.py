"""From a policy to the source it names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from moraine.model.policy import Policy, PosixSource, S3Source
from moraine.sources import posix
from moraine.sources.excludes import ExcludeRules

if TYPE_CHECKING:
    from moraine.sources import s3


def open_source(
    policy: Policy,
    *,
    session: Any | None = None,
    renew: Callable[[], Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> posix.PosixSource | s3.S3Source:
    """The source of a policy; nothing is looked at yet.

    Args:
        policy: names it.
        session: a boto3 session for a source in S3.
        renew: makes it anew when its credentials have ended.
        environ: where AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL … are looked up without one.

    Raises:
        ConfigError: a bad pattern or pattern file.
    """
    source = policy.source
    if isinstance(source, S3Source):
        return _open_s3(source, session, renew, environ or {})
    return _open_posix(source)


def _open_posix(source: PosixSource) -> posix.PosixSource:
    excludes = ExcludeRules.build(
        source.exclude,
        iexclude=source.iexclude,
        files=source.exclude_files,
        if_present=source.exclude_if_present,
        caches=source.exclude_caches,
        larger_than=source.exclude_larger_than,
    )
    return posix.PosixSource(
        source.path, excludes, one_file_system=source.one_file_system, must_be_mount=source.must_be_mount
    )


def _open_s3(
    source: S3Source, session: Any | None, renew: Callable[[], Any] | None, environ: Mapping[str, str]
) -> s3.S3Source:
    from moraine.sources import s3
    from moraine.sources.s3_client import open_client
    from moraine.sources.s3_inventory import InventoryPlace

    excludes = ExcludeRules.build(
        source.exclude,
        iexclude=source.iexclude,
        files=source.exclude_files,
        larger_than=source.exclude_larger_than,
    )
    listed = source.inventory
    place = InventoryPlace(listed.url, listed.max_age) if listed else None
    return s3.S3Source(
        source.bucket,
        source.prefix,
        excludes,
        history=source.history,
        inventory=place,
        client=lambda: open_client(
            session=session, renew=renew, environ=environ, region=source.region, endpoint_url=source.endpoint_url
        ),
    )
