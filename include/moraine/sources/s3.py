"""The objects under a prefix of a bucket as a source. Listing and reader do the work."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from moraine.errors import ConfigError
from moraine.sources.base import ListShard, SourceFacts
from moraine.sources.excludes import ExcludeRules, Explanation
from moraine.sources.s3_client import S3Bucket
from moraine.sources.s3_inventory import Inventory, InventoryPlace
from moraine.sources.s3_listing import Listing, Pages
from moraine.sources.s3_reader import S3Reader
from moraine.sources.s3_sorted import SortedObjects, batches_of, sort_objects
from moraine.sources.s3_versions import Past, kept_for, list_versions

Remarks = list[str]
_NO_TIME = datetime.max.replace(tzinfo=UTC)


class S3Source:
    """A bucket, or the keys under a prefix of it, as a tree (`sources.base.Source`)."""

    kind = "s3"

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        excludes: ExcludeRules | None = None,
        *,
        client: Callable[[], Any],
        history: bool = False,
        inventory: InventoryPlace | None = None,
    ) -> None:
        """Describe the source; nothing is looked at yet.

        Args:
            bucket: its name.
            prefix: what its keys begin with, exactly; a slash is put at its end where there is none.
            excludes: patterns for paths of the tree, and the largest size.
            client: makes a boto3 client for S3, once.
            history: read the bucket as it was at the instant given to `as_of`, from the versions it keeps.
            inventory: where lists of the bucket are found, in place of listing it.
        """
        self.bucket = bucket
        self.prefix = prefix + "/" if prefix and not prefix.endswith("/") else prefix
        self._excludes = excludes or ExcludeRules()
        self._make = client
        self._history = history
        self._inventory = inventory
        self._at = _NO_TIME
        self._remarks: Remarks = []  # of the last listing; shared with what `as_of` gives

    @cached_property
    def _objects(self) -> S3Bucket:
        return S3Bucket(self._make(), self.bucket)

    def probe(self) -> SourceFacts:
        """Look for a first key, and how far back the versions reach, before anything is written.

        Raises:
            SourceMissing: there is no such bucket.
            SourceError: the policy asks for history and the bucket keeps no versions.
            SourceDenied, AccessDenied: it may not be listed.
            StoreUnavailable: the service does not answer.
            ConfigError: there are no credentials.
        """
        shown = f"s3://{self.bucket}/{self.prefix}"
        empty = not self._objects.page(self.prefix, most=1).objects
        history = kept_for(self._objects, self.prefix) if self._history else None
        notes = (f"{shown} holds no object",) if empty else ()
        return SourceFacts(root=shown, device=0, history=history, notes=notes)

    def as_of(self, at: datetime) -> S3Source:
        """The bucket as it was just before `at`, where the policy asks for history; an inventory must not be older."""
        past = copy.copy(self)
        past._at = at
        return past

    def shards(self, want: int) -> list[ListShard]:
        """Split the listing into at most `want` parts. What comes from versions or an inventory is one."""
        if self._history or self._inventory:
            return [ListShard("all")]
        return Listing(self._objects, self.prefix, self._excludes).split(want)

    def list(self, shard: ListShard) -> Iterator[pa.RecordBatch]:
        """Entries in manifest order. Raises ConfigError for a part of what cannot be split, and what `probe` raises."""
        if (self._history or self._inventory) and (shard.roots != (b"",) or shard.stop_at):
            raise ConfigError(f"this listing has no part {shard.name}", hint="clear `open`: the policy was changed")
        remarks: Remarks = []
        with self._pages(remarks) as pages:
            listing = Listing(pages, self.prefix, self._excludes, shard)
            yield from listing.batches()
        self._remarks[:] = [*_archived(listing.archived), *remarks]

    @contextmanager
    def _pages(self, remarks: Remarks) -> Iterator[Pages]:
        if not self._history and not self._inventory:
            yield self._objects
            return
        with TemporaryDirectory(prefix="moraine-list-") as folder:
            yield SortedObjects(sort_objects(self._rows(remarks), Path(folder)))

    def _rows(self, remarks: Remarks) -> Iterator[pa.RecordBatch]:
        """What the list on disk is made of."""
        past = Past(self._at)
        if self._inventory:
            inventory = Inventory(self._objects, self._inventory, self.prefix, at=self._at, history=self._history)
            yield from inventory.batches()
            remarks += inventory.remarks
            return
        yield from batches_of(past.objects(list_versions(self._objects, self.prefix)))
        if past.untold:
            remarks.append(
                f"{past.untold:,} key{'s' * (past.untold > 1)} may have held something at {self._at:%Y-%m-%d %H:%M:%S} "
                "that is gone: the oldest version left is younger, and a deletion or from before versioning"
            )
        if past.misdated:
            remarks.append(
                "this server seems to give replaced versions the time at which they were replaced: then windows of the "
                "past are not read right, and `history` should be taken out of the policy"
            )

    def reader(self) -> S3Reader:
        """Open a reader; it is a context manager, and for one thread."""
        return S3Reader(self._objects, self.prefix)

    def remarks(self) -> tuple[str, ...]:
        """What the last listing found: objects that have to be restored before they can be read, history cut off."""
        return tuple(self._remarks)

    def explain(self, path: str) -> Explanation:
        """Why a path of the tree is in a backup, or is not, by the patterns alone."""
        return self._excludes.explain(path.encode("utf-8", "surrogateescape"))


def _archived(count: int) -> tuple[str, ...]:
    if not count:
        return ()
    return (
        f"{count:,} object{'s' * (count > 1)} in storage class GLACIER or DEEP_ARCHIVE cannot be read: restore "
        "them in S3 (RestoreObject) for as long as a run takes, or exclude them",
    )
