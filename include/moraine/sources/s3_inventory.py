"""S3 Inventory: finds a list that S3 has made of a bucket, checks it and reads it. Trusts nothing that it says.

The manifest names the data files with their MD5; both are checked before a row is used. Rows come in no order.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pyarrow as pa

from moraine.errors import SourceError, SourceVanished
from moraine.sources.s3_ahead import PART
from moraine.sources.s3_client import ChangedMeanwhile, S3Bucket
from moraine.sources.s3_inventory_rows import FORMATS, Columns, read_rows

_DATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\dZ/$")
_MANIFEST = "manifest.json"
_LONGEST_MANIFEST = 64 << 20


class InventoryPlace(NamedTuple):
    """Where inventories are published, and how old one may be."""

    url: str  # s3:// and the key of a manifest.json, or what the dated folders lie in
    max_age: timedelta


class _File(NamedTuple):
    key: str
    size: int
    md5: str


class Inventory:
    """The newest inventory at a place."""

    def __init__(self, source: S3Bucket, place: InventoryPlace, prefix: str, *, at: datetime, history: bool) -> None:
        """Find and check the manifest.

        Args:
            source: the bucket that is listed.
            place: where its inventories are.
            prefix: what the keys asked for begin with.
            at: the instant that the list is for; the inventory may be `max_age` older.
            history: the list is to tell of that instant exactly, so it must be younger and hold all versions.

        Raises:
            SourceError: no inventory is there, or it is damaged, of another bucket, too old, or lacks a column.
        """
        bucket, _, key = place.url.removeprefix("s3://").partition("/")
        self._store = S3Bucket(source.client, bucket)
        self._key = key if key.endswith(_MANIFEST) else self._newest(key if not key or key.endswith("/") else key + "/")
        self.shown = f"inventory s3://{bucket}/{self._key}"
        manifest = self._manifest()
        self.made_at = self._checked_date(manifest, place, at, history)
        if manifest.get("sourceBucket") != source.bucket:
            raise SourceError(
                f"{self.shown} lists bucket {manifest.get('sourceBucket')}, not {source.bucket}",
                hint="correct `source.inventory.url`",
            )
        self._format = str(manifest.get("fileFormat")).lower()
        if self._format not in FORMATS:
            raise self._broken(f"its file format {manifest.get('fileFormat')!r} is none of CSV, ORC and Parquet")
        self._files = self._checked_files(manifest)
        names = [name.strip() for name in str(manifest.get("fileSchema", "")).split(",")]
        self._columns = Columns(source.bucket, prefix, names, at if history else None)
        self.remarks: list[str] = [f"listed from the {self.shown} of {self.made_at:%Y-%m-%d %H:%M} UTC"]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """What it lists (`s3_sorted.OBJECTS`). Raises SourceError when a file is not what the manifest says."""
        for file in self._files:
            with self._downloaded(file) as path, self._translated(file):
                yield from read_rows(path, self._format, self._columns)

    def _newest(self, folder: str) -> str:
        found: list[str] = []
        token: str | None = ""
        while token is not None:
            page = self._store.page(folder, delimiter="/", token=token)
            found += [prefix + _MANIFEST for prefix in page.prefixes if _DATED.search(prefix)]
            token = page.token
        for key in sorted(found, reverse=True):
            try:
                self._store.look(key)  # a folder comes before its manifest
                return key
            except SourceVanished:
                continue
        raise SourceError(
            f"no inventory lies in s3://{self._store.bucket}/{folder}",
            hint="name what holds the folders like 2026-01-31T00-00Z; the first inventory takes S3 up to two days",
        )

    def _manifest(self) -> dict[str, Any]:
        data = self._whole(self._key)
        checksum = self._key.removesuffix(_MANIFEST) + "manifest.checksum"
        try:
            wanted = self._whole(checksum).decode("ascii", "replace").strip()
        except SourceVanished:
            wanted = ""
        if wanted and hashlib.md5(data, usedforsecurity=False).hexdigest() != wanted:
            raise self._broken("its manifest does not have the MD5 of manifest.checksum")
        try:
            manifest = json.loads(data)
        except ValueError as error:
            raise self._broken("its manifest is not JSON") from error
        if not isinstance(manifest, dict):
            raise self._broken("its manifest is not what S3 writes")
        return manifest

    def _whole(self, key: str) -> bytes:
        data = b""
        while True:
            part = self._store.read(key, len(data), PART)
            data += part.data
            if len(data) >= part.size or not part.data:
                return data
            if len(data) > _LONGEST_MANIFEST:
                raise self._broken("its manifest is larger than 64 MiB")

    def _checked_date(self, manifest: dict[str, Any], place: InventoryPlace, at: datetime, history: bool) -> datetime:
        try:
            made = datetime.fromtimestamp(int(manifest["creationTimestamp"]) / 1000, UTC)
        except (KeyError, TypeError, ValueError, OverflowError, OSError) as error:
            raise self._broken("its manifest has no creationTimestamp") from error
        if at.year == datetime.max.year:  # nobody asked for an instant
            return made
        if history and made < at:
            raise SourceError(
                f"the {self.shown} is of {made:%Y-%m-%d %H:%M} UTC, before the window ends at {at:%Y-%m-%d %H:%M}",
                hint="with `history` wait for a later inventory, or take `inventory` out of the policy",
            )
        if at - made > place.max_age:
            raise SourceError(
                f"the {self.shown} is of {made:%Y-%m-%d %H:%M} UTC, more than {place.max_age} before the window's end",
                hint="look why S3 publishes no newer one, raise `source.inventory.max_age`, or take `inventory` out",
            )
        return made

    def _checked_files(self, manifest: dict[str, Any]) -> list[_File]:
        try:
            files = [_File(str(item["key"]), int(item["size"]), str(item["MD5checksum"])) for item in manifest["files"]]
        except (KeyError, TypeError, ValueError) as error:
            raise self._broken("its manifest does not say key, size and MD5checksum of every file") from error
        return files

    @contextmanager
    def _downloaded(self, file: _File) -> Iterator[Path]:
        """A data file on disk, once it has proven to be the one the manifest means."""
        with TemporaryDirectory(prefix="moraine-inventory-") as folder:
            path, seen, done = Path(folder) / "data", hashlib.md5(usedforsecurity=False), 0
            with self._translated(file), open(path, "wb") as target:
                etag = None
                while done < file.size:
                    part = self._store.read(file.key, done, PART, etag=etag)
                    if not part.data:
                        break
                    etag = part.etag
                    seen.update(part.data)
                    target.write(part.data)
                    done += len(part.data)
                if (done, part.size if file.size else 0, seen.hexdigest()) != (file.size, file.size, file.md5.lower()):
                    raise self._broken(f"its file {file.key} does not have the size and MD5 that its manifest says")
            yield path

    @contextmanager
    def _translated(self, file: _File) -> Iterator[None]:
        try:
            yield
        except SourceVanished as error:
            raise self._broken(f"its file {file.key} is not there") from error
        except ChangedMeanwhile as error:
            raise self._broken(f"its file {file.key} was replaced while it was read") from error
        except (pa.ArrowException, OSError, EOFError, ValueError) as error:
            raise self._broken(f"its file {file.key} cannot be read: {error}") from error

    def _broken(self, what: str) -> SourceError:
        shown = getattr(self, "shown", f"inventory s3://{self._store.bucket}/{self._key}")
        return SourceError(
            f"the {shown} cannot be used: {what}",
            hint="wait for the next inventory, or take `inventory` out of the policy",
        )
