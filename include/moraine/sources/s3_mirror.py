"""A prefix of a bucket as a mirror: how it is looked at, and what lies in its trash. Writing is `s3_mirror_writer`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from typing import Any

import pyarrow as pa

from moraine.errors import SourceVanished
from moraine.model.entry import Kind, join_path
from moraine.sources.base import ListShard
from moraine.sources.excludes import ExcludeRules
from moraine.sources.mirror import LookAt, MirrorFacts, MirrorWriter, trash_time
from moraine.sources.s3 import S3Source
from moraine.sources.s3_mirror_client import MirrorBucket
from moraine.sources.s3_mirror_keys import Keys
from moraine.sources.s3_mirror_reader import S3Content
from moraine.sources.s3_mirror_writer import S3MirrorWriter
from moraine.sources.target import Content


class S3Mirror:
    """Objects under a prefix that are kept like a source (`sources.mirror.Mirror`)."""

    kinds = frozenset({Kind.FILE})
    links = False
    width = 8

    def __init__(self, bucket: str, prefix: str, state: str, *, from_bucket: bool, client: Callable[[], Any]) -> None:
        """Describe it; nothing is asked yet.

        Args:
            bucket: its name.
            prefix: what all keys begin with; a slash is put at its end where there is none.
            state: the part of the key after that, under which the mirror keeps what it knows of itself.
            from_bucket: the source is one too, so that paths stand for keys.
            client: makes a boto3 client for S3, once.
        """
        self._name = bucket
        self._prefix = prefix + "/" if prefix and not prefix.endswith("/") else prefix
        self._state = f"{self._prefix}{state}/"
        self._excludes = ExcludeRules.build([f"/{state}"])
        self._from_bucket = from_bucket
        self._make = client
        self._keys = Keys(self._prefix, from_bucket=from_bucket)

    @property
    def url(self) -> str:
        """Bucket and prefix."""
        return f"s3://{self._name}/{self._prefix}".rstrip("/")

    @cached_property
    def _bucket(self) -> MirrorBucket:
        return MirrorBucket(self._make(), self._name)

    def probe(self) -> MirrorFacts:
        """Look for a key that is not the mirror's own."""
        page = self._bucket.reading.page(self._prefix, delimiter="/", most=2)
        return MirrorFacts(True, not page.objects and set(page.prefixes) <= {self._state})

    def entries(self) -> Iterator[pa.RecordBatch]:
        """What is in the tree."""
        source = S3Source(self._name, self._prefix, self._excludes, client=lambda: self._bucket.client)
        for batch in source.list(ListShard("all")):
            yield self._keys.paths(batch)

    @contextmanager
    def reader(self) -> Iterator[LookAt]:
        """Open the tree for reading files."""
        yield self._opener(self._keys.key)

    def trashes(self) -> list[str]:
        """The names of all trashes, oldest first."""
        found: list[str] = []
        token: str | None = None
        while True:
            page = self._bucket.reading.page(self._folder, delimiter="/", token=token)
            found += [prefix.removeprefix(self._folder).rstrip("/") for prefix in page.prefixes]
            token = page.token
            if token is None:
                return sorted(name for name in found if trash_time(name))

    @contextmanager
    def trash(self, name: str) -> Iterator[LookAt]:
        """Open a trash for reading files."""
        yield self._opener(lambda path: self._trash(name) + self._keys.key(path).removeprefix(self._prefix))

    def purge(self, before: datetime) -> list[str]:
        """Remove trashes from before that time."""
        gone = [name for name in self.trashes() if (at := trash_time(name)) is not None and at < before]
        for name in gone:
            self._bucket.remove(list(self._bucket.keys(self._trash(name))))
        return gone

    def sweep(self, working: Collection[str]) -> None:
        """Give up objects in parts that no run will end."""
        if not working:
            for key, upload in list(self._bucket.uploads(self._prefix)):
                self._bucket.abort(key, upload)

    @contextmanager
    def writer(self, trash: str, mark: str) -> Iterator[MirrorWriter]:
        """Open for writing."""
        del mark
        place = self._trash(trash)
        with S3MirrorWriter(self._bucket, self._prefix, self._keys, place, from_bucket=self._from_bucket) as writer:
            yield writer

    @property
    def _folder(self) -> str:
        return f"{self._state}trash/"

    def _trash(self, name: str) -> str:
        return f"{self._folder}{name}/"

    def _opener(self, key: Callable[[bytes], str]) -> LookAt:
        def look(directory: bytes, name: bytes) -> Content | None:
            try:
                return S3Content(self._bucket.reading, key(join_path(directory, name)))
            except (OSError, SourceVanished):
                return None

        return look
