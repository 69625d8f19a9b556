"""Listing by S3 Inventory: the files as S3 writes them, and what is wrong with others."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote_plus

import pyarrow as pa
import pytest
from pyarrow import orc, parquet

from moraine.errors import ConfigError, SourceError
from moraine.model.entry import Kind, State, join_path
from moraine.sources.base import ListShard
from moraine.sources.s3 import S3Source
from moraine.sources.s3_inventory import InventoryPlace
from moraine.sources.s3_names import key_of
from servers import S3Server
from test_s3_source import ODD, Bucket

CSV_NAMES = {
    "bucket": "Bucket",
    "key": "Key",
    "version_id": "VersionId",
    "is_latest": "IsLatest",
    "is_delete_marker": "IsDeleteMarker",
    "size": "Size",
    "last_modified_date": "LastModifiedDate",
    "e_tag": "ETag",
    "storage_class": "StorageClass",
    "intelligent_tiering_access_tier": "IntelligentTieringAccessTier",
}
TYPES = {
    "is_latest": pa.bool_(),
    "is_delete_marker": pa.bool_(),
    "size": pa.int64(),
    "last_modified_date": pa.timestamp("ms", "UTC"),
}
NOW = datetime(2026, 3, 2, 2, tzinfo=UTC)
WHOLE = ListShard("all")


@dataclass
class Published:
    """A bucket, and another one to which inventories of it are published."""

    bucket: Bucket
    store: str
    place: InventoryPlace = field(init=False)

    def __post_init__(self) -> None:
        self.client = self.bucket.server.client
        self.place = InventoryPlace(f"s3://{self.store}/daily", timedelta(days=2))

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.store, Key=key, Body=data)

    def rows(self) -> list[dict[str, Any]]:
        """What S3 would list of the bucket as it is."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket.name)
        return [row(self.bucket.name, item) for page in pages for item in page.get("Contents", ())]

    def versions(self) -> list[dict[str, Any]]:
        pages = list(self.client.get_paginator("list_object_versions").paginate(Bucket=self.bucket.name))
        found = [row(self.bucket.name, item) for page in pages for item in page.get("Versions", ())]
        return found + [row(self.bucket.name, item) for page in pages for item in page.get("DeleteMarkers", ())]

    def publish(
        self, rows: list[dict[str, Any]], kind: str = "CSV", *, made: datetime = NOW, parts: int = 1, **manifest: Any
    ) -> None:
        """Data files with a share of the rows each, manifest and checksum."""
        names = [name for name in CSV_NAMES if any(name in found for found in rows)]
        described = []
        for number in range(parts):
            data = written(rows[number::parts], names, kind)
            key = f"daily/data/{made:%Y%m%d%H%M}-{number}.{kind.lower()}"
            self.put(key, data)
            described.append({"key": key, "size": len(data), "MD5checksum": hashlib.md5(data).hexdigest()})
        schema = ", ".join(CSV_NAMES[name] for name in names) if kind == "CSV" else f"of the {kind} files"
        content = {
            "sourceBucket": self.bucket.name,
            "destinationBucket": f"arn:aws:s3:::{self.store}",
            "version": "2016-11-30",
            "creationTimestamp": str(int(made.timestamp() * 1000)),
            "fileFormat": kind,
            "fileSchema": schema,
            "files": described,
        }
        self.put_manifest(json.dumps(content | manifest).encode(), made)

    def put_manifest(self, data: bytes, made: datetime = NOW) -> None:
        folder = f"daily/{made:%Y-%m-%dT%H-%MZ}"
        self.put(f"{folder}/manifest.json", data)
        self.put(f"{folder}/manifest.checksum", hashlib.md5(data).hexdigest().encode())

    def source(self, **more: Any) -> S3Source:
        settings = {"inventory": self.place, "client": lambda: self.client} | more
        return S3Source(self.bucket.name, self.bucket.prefix, **settings)

    def listed(self, at: datetime | None = NOW, **more: Any) -> list[dict[str, Any]]:
        source = self.source(**more)
        found = (source.as_of(at) if at else source).list(WHOLE)
        return [item for batch in found for item in batch.to_pylist()]


def row(bucket: str, item: dict[str, Any]) -> dict[str, Any]:
    found = {"bucket": bucket, "key": item["Key"], "last_modified_date": item["LastModified"]}
    if "Size" in item:
        found |= {"size": item["Size"], "e_tag": item["ETag"].strip('"'), "storage_class": item["StorageClass"]}
    if "VersionId" in item:
        versions = {
            "version_id": item["VersionId"],
            "is_latest": item["IsLatest"],
            "is_delete_marker": "Size" not in item,
        }
        found |= versions
    return found


def written(rows: list[dict[str, Any]], names: list[str], kind: str) -> bytes:
    target = io.BytesIO()
    if kind == "CSV":
        text = io.StringIO()
        lines = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
        for found in rows:
            lines.writerow([as_text(name, found.get(name)) for name in names])
        return gzip.compress(text.getvalue().encode())
    columns = {name: pa.array([found.get(name) for found in rows], TYPES.get(name, pa.string())) for name in names}
    (orc.write_table if kind == "ORC" else parquet.write_table)(pa.table(columns), target)
    return target.getvalue()


def as_text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name == "key":
        return quote_plus(value, safe="/")
    if name == "last_modified_date":
        return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{value.microsecond // 1000:03}Z"
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.fixture
def published(s3_bucket: Callable[[str], tuple[S3Server, str]]) -> Published:
    server, name = s3_bucket("ministack")
    return Published(Bucket(server, name), s3_bucket("ministack")[1])


@pytest.mark.parametrize("kind", ["CSV", "ORC", "Parquet"])
@pytest.mark.parametrize("prefix", ["", "a"])
def test_an_inventory_gives_the_rows_that_asking_the_bucket_gives(published: Published, kind: str, prefix: str) -> None:
    for key in ODD:
        published.bucket.put(key)
    published.bucket.put("cold", StorageClass="DEEP_ARCHIVE")
    published.publish(list(reversed(published.rows())), kind, parts=3)
    published.bucket.prefix = prefix
    assert published.listed() == published.listed(inventory=None)


def test_the_newest_inventory_counts_and_one_without_manifest_does_not(published: Published) -> None:
    published.bucket.put("a")
    published.publish([], made=NOW - timedelta(days=1))
    published.publish(published.rows(), made=NOW - timedelta(hours=3))
    published.put("daily/2026-03-02T01-00Z/manifest.checksum", b"not yet complete")
    published.put("daily/hive/dt=2026-03-02-01-00/symlink.txt", b"")
    source = published.source().as_of(NOW)
    assert sum(batch.num_rows for batch in source.list(WHOLE)) == 2
    assert source.remarks() == (
        f"listed from the inventory s3://{published.store}/daily/2026-03-01T23-00Z/manifest.json "
        "of 2026-03-01 23:00 UTC",
    )
    published.place = InventoryPlace(f"s3://{published.store}/daily/2026-03-01T02-00Z/manifest.json", timedelta(days=2))
    assert len(published.listed()) == 1


def test_what_changed_since_the_inventory_is_racy_and_what_has_gone_vanished(published: Published) -> None:
    for key in ("gone", "new", *(f"stays/{number}" for number in range(20))):
        published.bucket.put(key)
    published.publish(published.rows(), made=datetime.now(UTC))
    published.bucket.put("new", b"another body")
    published.bucket.put("unknown", b"not in the inventory yet")
    published.bucket.delete("gone")
    published.bucket.parts = {"inventory": {"url": published.place.url, "max_age": "1d"}}
    night = published.bucket.night()
    rows = published.bucket.rows(night)
    assert {path: row["state"] for path, row in rows.items() if row["state"] != State.OK} == {
        b"gone": State.VANISHED,
        b"new": State.RACY,
    }
    assert rows[b"new"]["size"] == len(b"another body")
    assert b"unknown" not in rows
    assert night.exit_code == 3


def test_storage_classes_and_tiers_that_cannot_be_read_are_denied(published: Published) -> None:
    for key in ("a", "b", "c", "d"):
        published.bucket.put(key)
    rows = published.rows()
    rows[0] |= {"storage_class": "GLACIER"}
    rows[1] |= {"storage_class": "INTELLIGENT_TIERING", "intelligent_tiering_access_tier": "DEEP_ARCHIVE"}
    rows[2] |= {"storage_class": "INTELLIGENT_TIERING", "intelligent_tiering_access_tier": "FREQUENT"}
    published.publish(rows)
    assert [item["name"] for item in published.listed() if item["state"] == State.DENIED] == [b"a", b"b"]


def versioned(published: Published) -> list[dict[str, Any]]:
    name = published.bucket.name
    published.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    for key, body in (("a", b"1"), ("b", b"1"), ("a", b"22"), ("c", b"1")):
        published.client.put_object(Bucket=name, Key=key, Body=body)
    published.client.delete_object(Bucket=name, Key="b")
    return published.versions()


def dated(rows: list[dict[str, Any]], key: str, newest_first: list[datetime]) -> None:
    of_key = sorted((found for found in rows if found["key"] == key), key=lambda found: found["last_modified_date"])
    for found, at in zip(reversed(of_key), newest_first, strict=True):
        found["last_modified_date"] = at


@pytest.mark.parametrize("kind", ["CSV", "ORC", "Parquet"])
def test_an_inventory_of_all_versions_tells_the_past_and_the_present(published: Published, kind: str) -> None:
    rows = versioned(published)
    hour = timedelta(hours=1)
    dated(rows, "a", [NOW, NOW - 2 * hour])
    dated(rows, "b", [NOW - hour, NOW - 2 * hour])
    dated(rows, "c", [NOW - 2 * hour])
    published.publish(rows, kind, made=NOW + hour, parts=2)

    def files(at: datetime, **more: Any) -> dict[bytes, int]:
        return {item["name"]: item["size"] for item in published.listed(at, **more) if item["kind"] == Kind.FILE}

    assert files(NOW, history=True) == {b"a": 1, b"c": 1}, "what is of the window's end comes after it"
    assert files(NOW + hour, history=True) == {b"a": 2, b"c": 1}
    assert files(NOW - hour, history=True) == {b"a": 1, b"b": 1, b"c": 1}
    assert files(NOW) == {b"a": 2, b"c": 1}, "without history it lists the present"
    with pytest.raises(SourceError, match="before the window ends"):
        files(NOW + 2 * hour, history=True)


def test_history_needs_an_inventory_of_all_versions(published: Published) -> None:
    versioned(published)
    published.publish(published.rows())
    with pytest.raises(SourceError, match="no column VersionId, IsLatest, IsDeleteMarker"):
        published.listed(history=True)


def test_an_inventory_that_is_too_old_is_refused(published: Published) -> None:
    published.bucket.put("a")
    published.publish(published.rows(), made=NOW - timedelta(days=2))
    assert len(published.listed()) == 2
    with pytest.raises(SourceError, match=r"2026-02-28 02:00 UTC, more than 2 days"):
        published.listed(NOW + timedelta(seconds=1))


@pytest.mark.parametrize("missing", ["size", "last_modified_date", "e_tag"])
def test_columns_that_changes_are_told_by_have_to_be_there(published: Published, missing: str) -> None:
    published.bucket.put("a")
    rows = published.rows()
    for found in rows:
        del found[missing]
        found.pop("storage_class")  # this one may be missing
    published.publish(rows)
    with pytest.raises(SourceError, match=r"it has no column (Size|Last modified|ETag): choose them"):
        published.listed()


def test_an_inventory_of_another_bucket_is_refused(published: Published) -> None:
    published.bucket.put("a")
    published.publish(published.rows(), sourceBucket="other")
    with pytest.raises(SourceError, match=f"lists bucket other, not {published.bucket.name}"):
        published.listed()
    rows = published.rows()
    rows[0]["bucket"] = "other"
    published.publish(rows)
    with pytest.raises(SourceError, match="lists objects of another bucket"):
        published.listed()


@pytest.mark.parametrize("kind", ["CSV", "ORC", "Parquet"])
def test_a_damaged_data_file_is_refused(published: Published, kind: str) -> None:
    published.bucket.put("a")
    published.publish(published.rows(), kind)
    key = published.client.list_objects_v2(Bucket=published.store, Prefix="daily/data/")["Contents"][0]["Key"]
    whole = published.client.get_object(Bucket=published.store, Key=key)["Body"].read()
    for damaged in (whole[:-1], whole + b"x", bytes([whole[0] ^ 1]) + whole[1:], b""):
        published.put(key, damaged)
        with pytest.raises(SourceError, match="does not have the size and MD5"):
            published.listed()
    published.client.delete_object(Bucket=published.store, Key=key)
    with pytest.raises(SourceError, match="is not there"):
        published.listed()
    half = whole[: len(whole) // 2]  # truncated when it was made: the manifest agrees
    published.put(key, half)
    file = {"key": key, "size": len(half), "MD5checksum": hashlib.md5(half).hexdigest()}
    published.publish(published.rows(), kind, files=[file], made=NOW + timedelta(hours=1))
    with pytest.raises(SourceError, match="cannot be read"):
        published.listed()


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (b"{", "is not JSON"),
        (b"[]", "not what S3 writes"),
        (b"{}", "no creationTimestamp"),
        (b'{"creationTimestamp": "soon"}', "no creationTimestamp"),
        (b'{"creationTimestamp": "1e99"}', "no creationTimestamp"),
    ],
)
def test_a_manifest_that_is_none_is_refused(published: Published, manifest: bytes, message: str) -> None:
    published.bucket.put("a")
    published.put_manifest(manifest)
    with pytest.raises(SourceError, match=message):
        published.listed()


def test_other_mistakes_are_said(published: Published) -> None:
    published.bucket.put("a")
    with pytest.raises(SourceError, match="no inventory lies in"):
        published.listed()
    published.publish(published.rows(), fileFormat="Avro")
    with pytest.raises(SourceError, match="'Avro' is none of"):
        published.listed()
    published.publish(published.rows(), files=[{"key": "x"}])
    with pytest.raises(SourceError, match="key, size and MD5checksum"):
        published.listed()
    published.publish(published.rows(), fileSchema="Bucket, Key")
    with pytest.raises(SourceError, match=r"cannot be read|cannot be used"):
        published.listed()
    published.publish(published.rows())
    published.put("daily/2026-03-02T02-00Z/manifest.checksum", b"0" * 32)
    with pytest.raises(SourceError, match=r"MD5 of manifest\.checksum"):
        published.listed()
    with pytest.raises(ConfigError, match="has no part part-002"):
        list(published.source().list(ListShard("part-002", (b"b",), ())))


def test_keys_come_back_from_csv_byte_for_byte(published: Published) -> None:
    for key in ODD:
        published.bucket.put(key)
    published.publish(published.rows())
    found = {
        key_of(join_path(item["dir"], item["name"])).decode()
        for item in published.listed()
        if item["kind"] == Kind.FILE
    }
    assert found == set(ODD)
