"""One bucket as a restore writes it: an object, a part of a large one, a copy, deletions. Knows no row and no tree.

Methods may be called from several threads at once. What concerns one object is raised as `Refused`; what concerns the
whole bucket as an error of `moraine.errors`, so that it stops a restore and is not taken for many odd objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from moraine.errors import AccessDenied, ConfigError, RestoreError, StoreUnavailable, TargetFull
from moraine.model.entry import display_path

PART = 8 << 20  # as the AWS tools have it: so an object that they cut gets its ETag back
MOST_PARTS = 10_000
LARGEST = 5 << 40
_COPY_WHOLE = 5 << 30
_DELETED_TOGETHER = 1000
_MIB = 1 << 20
_THERE = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409"})
_NO_KEYS = frozenset(
    {"ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch", "TokenRefreshRequired"}
)
_DENIED = frozenset({"AccessDenied", "403", "AllAccessDisabled", "AccountProblem"})
_PASSING = frozenset({"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "500", "502", "503", "504"})
_FULL = frozenset({"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507"})
_WRONG = frozenset({"InvalidStorageClass", "InvalidEncryptionAlgorithmError"})


class Refused(Exception):
    """The service will not have this one object; the text says why."""


class AlreadyThere(Refused):
    """A create-only write met an object of the same key."""


class UploadGone(Refused):
    """The upload is no longer under way: it was completed, or somebody ended it."""


def part_size(size: int) -> int:
    """How an object of `size` bytes is cut."""
    needed = -(-size // MOST_PARTS)
    return max(PART, -(-needed // _MIB) * _MIB)


class S3Writer:
    """The objects of a bucket."""

    again = "run the same restore again: it goes on where it stopped"  # what helps, in hints

    def __init__(self, client: Any, bucket: str, *, storage_class: str | None = None) -> None:
        """Use a boto3 client; nothing is asked yet."""
        self._client = client
        self.bucket = bucket
        self._kept = {"StorageClass": storage_class} if storage_class else {}

    def put(self, key: str, body: bytes | bytearray, headers: Mapping[str, Any], *, create: bool) -> str:
        """Write an object in one request; its ETag.

        Args:
            key: its key.
            body: all of it.
            headers: arguments such as ContentType and Metadata.
            create: only if no object has the key.

        Raises:
            AlreadyThere: an object has it.
            Refused: the service will not have it.
        """
        with self._call("write", key):
            answer = self._client.put_object(
                Bucket=self.bucket, Key=key, Body=body, **self._kept, **headers, **_only(create)
            )
        return _etag(answer)

    def begin(self, key: str, headers: Mapping[str, Any]) -> str:
        """Begin an upload in parts; its id."""
        with self._call("write", key):
            answer = self._client.create_multipart_upload(Bucket=self.bucket, Key=key, **self._kept, **headers)
        return str(answer["UploadId"])

    def part(self, key: str, upload: str, number: int, body: bytes | bytearray) -> str:
        """Write a part (the first is 1); its ETag."""
        with self._call("write", key):
            answer = self._client.upload_part(
                Bucket=self.bucket, Key=key, UploadId=upload, PartNumber=number, Body=body
            )
        return _etag(answer)

    def complete(self, key: str, upload: str, parts: Sequence[str], *, create: bool) -> str:
        """Make an object of its parts; its ETag. Raises as `put`."""
        named = [{"ETag": f'"{etag}"', "PartNumber": number} for number, etag in enumerate(parts, 1)]
        with self._call("complete", key):
            answer = self._client.complete_multipart_upload(
                Bucket=self.bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": named}, **_only(create)
            )
        return _etag(answer)

    def abort(self, key: str, upload: str) -> None:
        """End an upload and free its parts; one that has gone is fine."""
        with suppress(UploadGone), self._call("abort the upload of", key):
            self._client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload)

    def uploads(self, prefix: str) -> Iterator[tuple[str, str]]:
        """(key, id) of uploads that are under way."""
        more: dict[str, Any] = {}
        while True:
            with self._call("list the uploads of", prefix):
                answer = self._client.list_multipart_uploads(Bucket=self.bucket, Prefix=prefix, **more)
            yield from ((found["Key"], found["UploadId"]) for found in answer.get("Uploads", ()))
            if not answer.get("IsTruncated"):
                return
            more = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}

    def copy(self, source: str, key: str, headers: Mapping[str, Any], size: int) -> None:
        """Copy an object inside the bucket, also onto itself, with other headers. Raises Refused."""
        place = {"Bucket": self.bucket, "Key": source}
        if size <= _COPY_WHOLE:
            with self._call("copy to", key):
                self._client.copy_object(
                    Bucket=self.bucket, Key=key, CopySource=place, MetadataDirective="REPLACE", **self._kept, **headers
                )
            return
        upload, step, etags = self.begin(key, headers), max(part_size(size), 1 << 30), []
        try:
            for number, start in enumerate(range(0, size, step), 1):
                with self._call("copy to", key):
                    answer = self._client.upload_part_copy(
                        Bucket=self.bucket, Key=key, CopySource=place, UploadId=upload, PartNumber=number,
                        CopySourceRange=f"bytes={start}-{min(start + step, size) - 1}",
                    )  # fmt: skip
                etags.append(_etag(answer["CopyPartResult"]))
            self.complete(key, upload, etags, create=False)
        except BaseException:
            self.abort(key, upload)
            raise

    def delete(self, keys: Sequence[str]) -> list[tuple[str, str]]:
        """Delete up to a thousand objects; (key, why not) of those that stay."""
        plain = [key for key in keys if min(key) >= " "]  # XML cannot name the others
        stay: list[tuple[str, str]] = []
        for start in range(0, len(plain), _DELETED_TOGETHER):
            named = [{"Key": key} for key in plain[start : start + _DELETED_TOGETHER]]
            with self._call("delete", named[0]["Key"]):
                answer = self._client.delete_objects(Bucket=self.bucket, Delete={"Objects": named, "Quiet": True})
            stay += [(found["Key"], found.get("Message") or found["Code"]) for found in answer.get("Errors", ())]
        for key in keys:
            if min(key) < " ":
                try:
                    with self._call("delete", key):
                        self._client.delete_object(Bucket=self.bucket, Key=key)
                except Refused as error:
                    stay.append((key, str(error)))
        return stay

    @contextmanager
    def _call(self, verb: str, key: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

        try:
            yield
        except ClientError as error:
            raise self._refused(verb, key, error.response.get("Error", {})) from error
        except (HTTPClientError, OSError) as error:
            raise StoreUnavailable(
                f"s3://{self.bucket}: cannot {verb} {display_path(key.encode())}: {error}",
                hint=f"look at the endpoint, the network and the certificate; {self.again}",
            ) from error
        except BotoCoreError as error:
            raise ConfigError(
                f"s3://{self.bucket}: {error}", hint="set AWS_PROFILE or AWS_ACCESS_KEY_ID, or name a connection"
            ) from error

    def _refused(self, verb: str, key: str, error: Mapping[str, Any]) -> Exception:
        code = str(error.get("Code", ""))
        words = f"{code} {error.get('Message', '')}".strip()
        message = f"s3://{self.bucket}: cannot {verb} {display_path(key.encode())}: {words}"
        if code in _THERE:
            return AlreadyThere(words)
        if code == "NoSuchUpload":
            return UploadGone(words)
        if code == "NoSuchBucket":
            return RestoreError(f"there is no bucket {self.bucket}", hint="make it, or correct the target")
        if code in _DENIED or code in _NO_KEYS:
            hint = "allow s3:PutObject, s3:AbortMultipartUpload and s3:DeleteObject, or renew the credentials"
            return AccessDenied(message, hint=hint, code=code)
        if code in _PASSING:
            return StoreUnavailable(message, hint=self.again)
        if code in _FULL:
            return TargetFull(message, hint=f"make room and {self.again}")
        if code in _WRONG:
            return ConfigError(message, hint="STANDARD_IA, GLACIER_IR … are what AWS has; other servers have fewer")
        return Refused(words)


def _only(create: bool) -> dict[str, str]:
    return {"IfNoneMatch": "*"} if create else {}


def _etag(answer: Mapping[str, Any]) -> str:
    return str(answer.get("ETag", "")).strip('"')
