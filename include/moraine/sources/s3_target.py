"""The objects under a prefix of a bucket as the target of a restore. Looking and writing are done elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cached_property
from typing import Any

from moraine.errors import AccessDenied, ConfigError, RestoreError, SourceDenied, SourceError, SourceMissing
from moraine.sources.s3_client import S3Bucket
from moraine.sources.s3_sending import Sending
from moraine.sources.s3_target_forms import Form, ObjectForm, TreeForm
from moraine.sources.s3_target_looks import S3Looker
from moraine.sources.s3_target_writer import S3TargetWriter
from moraine.sources.s3_writer import S3Writer
from moraine.sources.target import TargetFacts, TargetReader, TargetWriter


class S3Target:
    """A bucket, or a prefix of it, to restore into (`sources.target.Target`)."""

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        client: Callable[[], Any],
        objects: bool,
        markers: bool = False,
        storage_class: str | None = None,
    ) -> None:
        """Describe the target; nothing is looked at yet.

        Args:
            bucket: its name; it has to exist.
            prefix: what all keys begin with; a slash is put at its end where there is none.
            client: makes a boto3 client for S3, once.
            objects: the snapshot is one of a bucket, and paths stand for keys.
            markers: write an empty object for each directory; for snapshots of directories.
            storage_class: of new objects; none: what the bucket has.
        """
        self._name = bucket
        self._root = prefix + "/" if prefix and not prefix.endswith("/") else prefix
        self._make = client
        self._objects = objects
        self._markers = markers and not objects
        self._storage_class = storage_class

    @property
    def url(self) -> str:
        """Bucket and prefix."""
        return f"s3://{self._name}/{self._root}"

    def probe(self) -> TargetFacts:
        """Look for a first key.

        Raises:
            RestoreError: there is no such bucket.
            AccessDenied: it may not be listed.
            StoreUnavailable: the service does not answer.
            ConfigError: there are no credentials.
        """
        form = self._form(owners=True)
        with self._translated():
            empty = not self._bucket.page(self._root, most=1).objects
        return TargetFacts(True, empty, None, form.owners, form.xattrs, self._markers)

    @contextmanager
    def reader(self) -> Iterator[TargetReader]:
        """Open for looking."""
        with self._translated(), closing(Sending()) as sending:
            yield S3Looker(self._bucket, self._root, self._form(owners=True), sending, markers=self._markers)

    @contextmanager
    def writer(self, *, owners: str = "id") -> Iterator[TargetWriter]:
        """Open for writing; `name` is no choice here: a bucket knows no names of users."""
        if owners not in ("id", "keep"):
            raise ConfigError(f"owners: {owners!r} is none of id, keep", hint="a bucket keeps owners by number")
        form = self._form(owners=owners == "id")
        write = S3Writer(self._client, self._name, storage_class=self._storage_class)
        with (
            self._translated(),
            S3TargetWriter(write, self._bucket, self._root, form, Sending(), markers=self._markers) as writer,
        ):
            yield writer

    def _form(self, *, owners: bool) -> Form:
        return ObjectForm() if self._objects else TreeForm(owners=owners)

    @cached_property
    def _client(self) -> Any:
        return self._make()

    @cached_property
    def _bucket(self) -> S3Bucket:
        return S3Bucket(self._client, self._name)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """What reading says of a source is said of the target."""
        try:
            yield
        except SourceMissing as error:
            hint = "make it, or correct the target, its endpoint or its region"
            raise RestoreError(f"there is no bucket {self._name}", hint=hint, target=self.url) from error
        except SourceDenied as error:
            hint = "allow s3:ListBucket and s3:GetObject on the target"
            raise AccessDenied(error.message, hint=hint, target=self.url) from error
        except SourceError as error:
            raise RestoreError(error.message, hint=error.hint, target=self.url) from error
