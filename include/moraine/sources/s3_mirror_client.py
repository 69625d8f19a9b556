"""The requests that change a mirror in a bucket. Knows keys and bytes, and what the errors of the SDK mean here."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from moraine.errors import AccessDenied, RestoreError, StoreUnavailable
from moraine.model.entry import display_path
from moraine.sources.s3_client import S3Bucket

_PASSING = frozenset({"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "500", "502", "503", "504"})
_DENIED = frozenset({"AccessDenied", "403", "ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"})
_GONE = frozenset({"NoSuchKey", "404", "NoSuchUpload"})
_THIS_OBJECT = frozenset({"KeyTooLongError", "InvalidArgument", "MetadataTooLarge", "EntityTooLarge"})


class MirrorBucket:
    """Writes objects. Safe for several threads, as SDK clients are."""

    def __init__(self, client: Any, bucket: str) -> None:
        self.client = client
        self.bucket = bucket
        self.reading = S3Bucket(client, bucket)

    def put(self, key: str, data: bytes | bytearray, headers: dict[str, Any]) -> None:
        """A whole object, visible at once."""
        with self._call("write", key):
            self.client.put_object(Bucket=self.bucket, Key=key, Body=bytes(data), **headers)

    def begin(self, key: str, headers: dict[str, Any]) -> str:
        """Begin an object in parts; nothing is visible before `end`."""
        with self._call("write", key):
            upload: str = self.client.create_multipart_upload(Bucket=self.bucket, Key=key, **headers)["UploadId"]
            return upload

    def part(self, key: str, upload: str, number: int, data: bytes) -> dict[str, Any]:
        """One part; what `end` wants to know of it."""
        with self._call("write", key):
            answer = self.client.upload_part(Bucket=self.bucket, Key=key, UploadId=upload, PartNumber=number, Body=data)
            return {"PartNumber": number, "ETag": answer["ETag"]}

    def end(self, key: str, upload: str, parts: list[dict[str, Any]]) -> None:
        """All parts are there: the object appears."""
        with self._call("write", key):
            self.client.complete_multipart_upload(
                Bucket=self.bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}
            )

    def abort(self, key: str, upload: str) -> None:
        """Leave no trace of an object in parts."""
        with self._call("abort", key), self._unless_gone():
            self.client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload)

    def uploads(self, prefix: str) -> list[tuple[str, str]]:
        """(key, upload) of all objects that were begun and not ended."""
        found: list[tuple[str, str]] = []
        with self._call("list the uploads of", prefix):
            for page in self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=prefix):
                found += [(item["Key"], item["UploadId"]) for item in page.get("Uploads", ())]
        return found

    def copy(self, key: str, to: str) -> bool:
        """Copy an object within the bucket, of any size; False when there is none."""
        with self._call("copy", key):
            try:
                self.client.copy({"Bucket": self.bucket, "Key": key}, self.bucket, to)
            except self.client.exceptions.ClientError as error:
                if str(error.response.get("Error", {}).get("Code")) in _GONE:
                    return False
                raise
        return True

    def rewrite(self, key: str, headers: dict[str, Any]) -> None:
        """Give an object other metadata."""
        with self._call("write", key):
            source = {"Bucket": self.bucket, "Key": key}
            self.client.copy_object(
                Bucket=self.bucket, Key=key, CopySource=source, MetadataDirective="REPLACE", **headers
            )

    def delete(self, keys: list[str]) -> None:
        """Delete objects."""
        for start in range(0, len(keys), 1000):
            some = [{"Key": key} for key in keys[start : start + 1000]]
            with self._call("delete", keys[start]):
                self.client.delete_objects(Bucket=self.bucket, Delete={"Objects": some, "Quiet": True})

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys under a prefix."""
        token: str | None = None
        while True:
            page = self.reading.page(prefix, token=token)
            yield from (item.key for item in page.objects)
            token = page.token
            if token is None:
                return

    @contextmanager
    def _unless_gone(self) -> Iterator[None]:
        try:
            yield
        except self.client.exceptions.ClientError as error:
            if str(error.response.get("Error", {}).get("Code")) not in _GONE:
                raise

    @contextmanager
    def _call(self, verb: str, key: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        shown = f"s3://{self.bucket}/{display_path(key.encode('utf-8', 'surrogateescape'))}"
        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in _THIS_OBJECT or (verb == "write" and code in _GONE):  # a server that cannot take such a key
                raise OSError(errno.EINVAL, f"refused: {code}") from error
            if code in _PASSING:
                raise StoreUnavailable(f"cannot {verb} {shown}: {code}", hint="try again") from error
            if code in _DENIED:
                hint = "allow s3:PutObject, s3:GetObject, s3:DeleteObject, s3:ListBucket and s3:AbortMultipartUpload"
                raise AccessDenied(f"cannot {verb} {shown}: {code}", hint=hint) from error
            raise RestoreError(f"cannot {verb} {shown}: {error}", hint="look at what the server says") from error
        except (BotoCoreError, OSError) as error:
            hint = "look at the endpoint, the network and the credentials"
            raise StoreUnavailable(f"cannot {verb} {shown}: {error}", hint=hint) from error
