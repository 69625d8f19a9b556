"""The objects under a prefix of a bucket as a source. Listing and reader do the work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import pyarrow as pa

from moraine.errors import ConfigError
from moraine.sources.base import ListShard, SourceFacts
from moraine.sources.excludes import ExcludeRules, Explanation
from moraine.sources.s3_client import S3Bucket
from moraine.sources.s3_listing import Listing
from moraine.sources.s3_reader import S3Reader


class S3Source:
    """A bucket, or the keys under a prefix of it, as a tree (`sources.base.Source`)."""

    kind = "s3"

    def __init__(
        self, bucket: str, prefix: str = "", excludes: ExcludeRules | None = None, *, client: Callable[[], Any]
    ) -> None:
        """Describe the source; nothing is looked at yet.

        Args:
            bucket: its name.
            prefix: what its keys begin with, exactly; a slash is put at its end where there is none.
            excludes: patterns for paths of the tree, and the largest size.
            client: makes a boto3 client for S3, once.
        """
        self.bucket = bucket
        self.prefix = prefix + "/" if prefix and not prefix.endswith("/") else prefix
        self._excludes = excludes or ExcludeRules()
        self._make = client
        self._listing: Listing | None = None

    @cached_property
    def _objects(self) -> S3Bucket:
        return S3Bucket(self._make(), self.bucket)

    def probe(self) -> SourceFacts:
        """Look for a first key before anything is written.

        Raises:
            SourceMissing: there is no such bucket.
            SourceDenied, AccessDenied: it may not be listed.
            StoreUnavailable: the service does not answer.
            ConfigError: there are no credentials.
        """
        shown = f"s3://{self.bucket}/{self.prefix}"
        empty = not self._objects.page(self.prefix, most=1).objects
        return SourceFacts(root=shown, device=0, notes=(f"{shown} holds no object",) if empty else ())

    def shards(self, want: int) -> list[ListShard]:
        """One: a bucket is listed by one task."""
        del want
        return [ListShard("all")]

    def list(self, shard: ListShard) -> Iterator[pa.RecordBatch]:
        """Entries in manifest order. Raises ConfigError for any shard but the one there is."""
        if shard.roots != (b"",) or shard.stop_at:
            raise ConfigError(f"the listing of a bucket has no part {shard.name}", hint="list it as a whole")
        self._listing = Listing(self._objects, self.prefix, self._excludes)
        yield from self._listing.batches()

    def reader(self) -> S3Reader:
        """Open a reader; it is a context manager, and for one thread."""
        return S3Reader(self._objects, self.prefix)

    def remarks(self) -> tuple[str, ...]:
        """How many objects the last listing found that have to be restored before they can be read."""
        count = self._listing.archived if self._listing else 0
        if not count:
            return ()
        return (
            f"{count:,} object{'s' * (count > 1)} in storage class GLACIER or DEEP_ARCHIVE cannot be read: restore "
            "them in S3 (RestoreObject) for as long as a run takes, or exclude them",
        )

    def explain(self, path: str) -> Explanation:
        """Why a path of the tree is in a backup, or is not, by the patterns alone."""
        return self._excludes.explain(path.encode("utf-8", "surrogateescape"))
