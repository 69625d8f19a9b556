"""The versions of a versioned bucket: what it held at an instant, and how far back that can be told.

ListObjectVersions comes in the order of keys, the newest version of a key first; so one pass tells for every key what
it was then: the first version, or delete marker, that is older than the instant. Order is the server's and not that of
times: times are whole seconds on AWS, and that of a multipart upload is when it began.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from moraine.errors import SourceDenied, SourceError
from moraine.sources.s3_client import Listed, S3Bucket, listed

_ELEMENT = re.compile(rb"<(Version|DeleteMarker)[\s>]")  # never text: there a `<` is escaped
_NO_LIFECYCLE = ("NoSuchLifecycleConfiguration", "NotImplemented")  # none is set, or the server knows of none
_PAIRS = 3  # say nothing yet
_PARSED = "before-parse.s3.ListObjectVersions"


class Version(NamedTuple):
    """A version of an object, or a delete marker in place of one."""

    key: str
    at: datetime
    latest: bool
    found: Listed | None  # None: from then on the key was deleted
    unversioned: bool = False  # written while the bucket kept no versions: what it replaced left no trace


class Past:
    """What each key was at an instant.

    `untold` counts keys of which that is not known for sure. Some servers give a replaced version the time at which it
    was replaced: then the instant is not told right, and nearly every pair of a key's newest two versions shows it.
    """

    def __init__(self, at: datetime) -> None:
        """Look back to just before `at`: windows are half-open."""
        self._at = at
        self.untold = 0
        self._pairs = self._undated = 0

    @property
    def misdated(self) -> bool:
        """Whether the server seems not to tell when versions were written."""
        return self._pairs >= _PAIRS and self._undated > self._pairs // 2

    def objects(self, versions: Iterable[Version]) -> Iterator[Listed]:
        """The objects that were there, of versions that come key by key, the newest of each first."""
        key, found = None, False
        last: Version | None = None
        for version in versions:
            if last and last.latest and last.key == version.key:
                self._pairs += 1
                self._undated += version.at.replace(microsecond=0) >= last.at.replace(microsecond=0)
            if version.key != key:
                self._close(last, found)
                key, found = version.key, False
            last = version
            if not found and version.at < self._at:
                found = True
                if version.found:
                    yield version.found
        self._close(last, found)

    def _close(self, oldest: Version | None, found: bool) -> None:
        # A key whose story begins after the instant with a deletion, or with a write that kept nothing of what was
        # there, has lost its beginning.
        if oldest and not found and (oldest.found is None or oldest.unversioned):
            self.untold += 1


def list_versions(bucket: S3Bucket, prefix: str) -> Iterator[Version]:
    """All versions of the keys under a prefix, in the server's order.

    Raises:
        SourceMissing, SourceDenied, StoreUnavailable: the bucket cannot be listed.
    """
    bucket.client.meta.events.register(_PARSED, _note_order, unique_id="moraine-order")
    marker: dict[str, str] = {}
    while True:
        with bucket.asking("list", prefix):
            answer = bucket.client.list_object_versions(
                Bucket=bucket.bucket, Prefix=prefix, OptionalObjectAttributes=["RestoreStatus"], **marker
            )
        yield from _in_order(answer)
        if not answer.get("IsTruncated"):
            return
        marker = {"KeyMarker": answer["NextKeyMarker"], "VersionIdMarker": answer["NextVersionIdMarker"]}


def kept_for(bucket: S3Bucket, prefix: str) -> timedelta:
    """How long versions that were replaced stay in the bucket at least, as it is set up; `timedelta.max`: for ever.

    Raises:
        SourceError: the bucket keeps no versions.
        SourceDenied: its configuration may not be read.
    """
    with _allowing("s3:GetBucketVersioning"), bucket.asking("look at", ""):
        status = bucket.client.get_bucket_versioning(Bucket=bucket.bucket).get("Status")
    if status != "Enabled":
        raise SourceError(
            f"bucket {bucket.bucket} keeps no versions: versioning is {(status or 'off').lower()}",
            hint="turn versioning on, or take `history` out of the policy",
        )
    try:
        with _allowing("s3:GetLifecycleConfiguration"), bucket.asking("look at", ""):
            rules = bucket.client.get_bucket_lifecycle_configuration(Bucket=bucket.bucket).get("Rules", ())
    except SourceError as error:
        if error.context.get("code") in _NO_LIFECYCLE:
            return timedelta.max
        raise
    return min((_days(rule) for rule in rules if _concerns(rule, prefix)), default=timedelta.max)


def _days(rule: Mapping[str, Any]) -> timedelta:
    days = rule.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays")
    return timedelta(days=days) if days else timedelta.max


def _concerns(rule: Mapping[str, Any], prefix: str) -> bool:
    """Whether a rule may remove something under `prefix`; which tags or sizes it asks for does not matter."""
    chosen = rule.get("Filter", {})
    named = chosen.get("Prefix") or chosen.get("And", {}).get("Prefix") or rule.get("Prefix") or ""
    return rule.get("Status") == "Enabled" and (named.startswith(prefix) or prefix.startswith(named))


class _allowing:
    """Names the permission that a refused request needs."""

    def __init__(self, permission: str) -> None:
        self._permission = permission

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: object) -> None:
        if isinstance(error, SourceDenied):
            raise SourceDenied(error.message, hint=f"allow {self._permission}: history needs it") from error


def _note_order(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **more: Any) -> None:
    """The SDK puts versions and delete markers into two lists; remember how they stood in one."""
    found = _ELEMENT.findall(response_dict.get("body") or b"")
    customized_response_dict["Order"] = [word == b"Version" for word in found]


def _in_order(answer: Mapping[str, Any]) -> list[Version]:
    versions = iter([_version(item) for item in answer.get("Versions", ())])
    markers = iter([_marker(item) for item in answer.get("DeleteMarkers", ())])
    mixed = [next(versions if is_version else markers) for is_version in answer["Order"]]
    apart = answer["Order"] in (sorted(answer["Order"]), sorted(answer["Order"], reverse=True))
    if not apart or not answer.get("Versions") or not answer.get("DeleteMarkers"):
        return mixed
    # All of one kind before all of the other: a server that keeps them apart (or a page where this is right too). Only
    # times tell how they stood.
    return sorted(mixed, key=lambda version: (version.key.encode(), not version.latest, -version.at.timestamp()))


def _version(item: dict[str, Any]) -> Version:
    unversioned = item["VersionId"] == "null"
    return Version(item["Key"], item["LastModified"], item["IsLatest"], listed(item), unversioned)


def _marker(item: dict[str, Any]) -> Version:
    return Version(item["Key"], item["LastModified"], item["IsLatest"], None, item["VersionId"] == "null")
