"""One bucket as a source reads it: a page of keys, a part of an object. The only source module that uses the SDK.

boto3 and not obstore, which refuses keys with `//`, `.` and `..`. Errors of single objects become SourceVanished
and SourceDenied; what concerns the whole bucket becomes SourceMissing, AccessDenied or StoreUnavailable, so that it
stops a step and is not taken for a few thousand unreadable files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from moraine.errors import (
    AccessDenied,
    ConfigError,
    MoraineError,
    SourceDenied,
    SourceError,
    SourceMissing,
    SourceVanished,
    StoreUnavailable,
)
from moraine.model.entry import display_path
from moraine.model.record import dataclass
from moraine.sources.s3_renewal import Renewed

ARCHIVED = frozenset({"GLACIER", "DEEP_ARCHIVE"})  # not GLACIER_IR, which is read like any other
_GONE = frozenset({"NoSuchKey", "NoSuchVersion", "404", "MethodNotAllowed"})
_KEYS = frozenset(
    {"ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch", "TokenRefreshRequired"}
    | {"XAdminUserNotFound"}  # versitygw
)
_PASSING = frozenset({"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "500", "502", "503", "504"})
_BODIES = 3  # attempts
CONNECTIONS = 32
_HEADERS = (
    ("ContentType", "content-type"),
    ("ContentEncoding", "content-encoding"),
    ("ContentDisposition", "content-disposition"),
    ("ContentLanguage", "content-language"),
    ("CacheControl", "cache-control"),
    ("WebsiteRedirectLocation", "website-redirect-location"),
)


class ChangedMeanwhile(Exception):
    """The object is another one now: `If-Match` did not hold."""


class Listed(NamedTuple):
    """An object as a listing shows it."""

    key: str
    size: int
    modified: int  # seconds: all that the header of an object tells of its time
    etag: str
    archived: str | None  # the storage class, if the object cannot be read from it
    version: str | None = None  # set where the listing names versions: this one is read, whatever came after it


@dataclass(frozen=True, slots=True)
class Page:
    """Up to 1,000 objects and prefixes, in byte order of their keys."""

    objects: list[Listed]
    prefixes: list[str]
    token: str | None  # where the next page begins


@dataclass(frozen=True, slots=True)
class Found:
    """An object as a request for it shows it."""

    size: int  # of the whole object
    modified: int
    etag: str
    data: bytes
    headers: dict[str, str]  # what it was stored with: content-type …
    metadata: dict[str, str]  # what its owner says of it
    version: str | None = None  # as it was asked for


class S3Bucket:
    """The objects of a bucket. Several threads may read at once."""

    def __init__(self, client: Any, bucket: str) -> None:
        """Use a boto3 client; nothing is asked yet."""
        self.client = client
        self.bucket = bucket

    def page(self, prefix: str, *, delimiter: str = "", token: str | None = None, most: int = 1000) -> Page:
        """A page of the keys under `prefix`; with a delimiter those behind it are one prefix."""
        more = {"Delimiter": delimiter} if delimiter else {}
        more |= {"ContinuationToken": token} if token else {}
        with self.asking("list", prefix):
            answer = self.client.list_objects_v2(
                Bucket=self.bucket, Prefix=prefix, MaxKeys=most, OptionalObjectAttributes=["RestoreStatus"], **more
            )
        objects = [listed(item) for item in answer.get("Contents", ())]
        prefixes = [item["Prefix"] for item in answer.get("CommonPrefixes", ())]
        return Page(objects, prefixes, answer["NextContinuationToken"] if answer.get("IsTruncated") else None)

    def read(self, key: str, start: int, length: int, *, etag: str | None = None, version: str | None = None) -> Found:
        """`length` bytes from `start` on, fewer where the object ends; of one version, or of the latest.

        Raises:
            ChangedMeanwhile: its ETag is not `etag`.
        """
        asked = {"Range": f"bytes={start}-{start + length - 1}"} | ({"IfMatch": f'"{etag}"'} if etag else {})
        asked |= {"VersionId": version} if version else {}
        for left in reversed(range(_BODIES)):  # the SDK tries a request again, but not a body that breaks off
            try:
                with self.asking("read", key):
                    answer = self.client.get_object(Bucket=self.bucket, Key=key, **asked)
                    return _found(answer, answer["Body"].read(), version)
            except StoreUnavailable:
                if not left:
                    raise
            except SourceError as error:
                if error.context.get("code") in ("InvalidRange", "416"):  # an empty object has no range
                    break
                raise
        return self.look(key, version=version)

    def look(self, key: str, *, version: str | None = None) -> Found:
        """All but the content."""
        asked = {"VersionId": version} if version else {}
        with self.asking("look at", key):
            return _found(self.client.head_object(Bucket=self.bucket, Key=key, **asked), b"", version)

    @contextmanager
    def asking(self, verb: str, key: str) -> Iterator[None]:
        """Around a request: what the SDK raises becomes an error of this package. `verb` and `key` are for people."""
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError

        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in ("PreconditionFailed", "412"):
                raise ChangedMeanwhile(key) from error
            raise _refused(self.bucket, verb, key, code, error.response) from error
        except (HTTPClientError, IncompleteReadError, OSError) as error:
            raise StoreUnavailable(
                f"s3://{self.bucket}: cannot {verb} {display_path(key.encode())}: {error}",
                hint="look at the endpoint, the network and the certificate",
            ) from error
        except BotoCoreError as error:
            hint = "name an Airflow connection, or set AWS_PROFILE or AWS_ACCESS_KEY_ID"
            raise ConfigError(f"s3://{self.bucket}: {error}", hint=hint) from error


def open_client(
    *,
    session: Any | None,
    environ: Mapping[str, str],
    region: str | None,
    endpoint_url: str | None,
    renew: Callable[[], Any] | None = None,
) -> Any:
    """An S3 client with the credentials of a boto3 session, of `environ`, or of the AWS chain.

    Args:
        session: a boto3 session.
        environ: AWS_* variables.
        region: the bucket's.
        endpoint_url: the S3 server, if it is not AWS.
        renew: makes the session anew when its credentials are refused; those of the chain are looked up anew.

    Raises:
        ConfigError: a profile, an endpoint or a certificate cannot be used.
    """
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    endpoint = endpoint_url or environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    named = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 6},
        connect_timeout=5,
        read_timeout=60,
        max_pool_connections=CONNECTIONS,
        user_agent_extra="moraine",
        s3={"addressing_style": "path"} if endpoint else None,
    )
    try:
        if session is None:
            renew = partial(_chain, environ)
            session = renew()
        make = Renewed(session, renew).client if renew and session.get_credentials() else session.client
        return make(
            "s3",
            region_name=region or session.region_name or named or "us-east-1",
            endpoint_url=endpoint,
            verify=environ.get("AWS_CA_BUNDLE"),
            config=config,
        )
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(f"cannot use S3: {error}", hint="look at AWS_PROFILE, ~/.aws and the endpoint") from error


def _chain(environ: Mapping[str, str]) -> Any:
    import boto3

    return boto3.Session(
        environ.get("AWS_ACCESS_KEY_ID"),
        environ.get("AWS_SECRET_ACCESS_KEY"),
        environ.get("AWS_SESSION_TOKEN"),
        profile_name=environ.get("AWS_PROFILE"),
    )


def listed(item: dict[str, Any]) -> Listed:
    """An object, or a version of one, out of what the SDK says of it in a listing."""
    archived = item.get("StorageClass") if item.get("StorageClass") in ARCHIVED else None
    if archived and item.get("RestoreStatus", {}).get("RestoreExpiryDate"):  # a copy can be read until then
        archived = None
    etag, version = item.get("ETag", "").strip('"'), item.get("VersionId")
    return Listed(item["Key"], item["Size"], _seconds(item["LastModified"]), etag, archived, version)


def _found(answer: dict[str, Any], data: bytes, version: str | None) -> Found:
    size = int(answer["ContentRange"].rpartition("/")[2]) if "ContentRange" in answer else answer["ContentLength"]
    headers = {name: str(answer[key]) for key, name in _HEADERS if answer.get(key)}
    etag = answer.get("ETag", "").strip('"')
    return Found(size, _seconds(answer["LastModified"]), etag, data, headers, answer.get("Metadata", {}), version)


def _seconds(at: datetime) -> int:
    return int(at.timestamp())


def _refused(bucket: str, verb: str, key: str, code: str, answer: Mapping[str, Any]) -> MoraineError:
    shown = display_path(key.encode())
    words = " ".join(part for part in (code, answer.get("Error", {}).get("Message", "")) if part)
    message = f"s3://{bucket}: cannot {verb} {shown or 'the bucket'}: {words}"
    if code == "NoSuchBucket" or (code in _GONE and verb == "list"):
        return SourceMissing(f"there is no bucket {bucket}", hint="correct `source.bucket`, or the endpoint or region")
    if code in _GONE:
        return SourceVanished(f"s3://{bucket}/{shown} has gone since it was listed", path=key)
    if code in _KEYS:
        return AccessDenied(message, hint="renew or correct the credentials of the source", code=code)
    if code in _PASSING:
        return StoreUnavailable(message, hint="try again")
    if code == "InvalidObjectState":
        hint = "restore it in S3 (RestoreObject) for as long as a run takes, or exclude it in the policy"
        return SourceDenied(f"s3://{bucket}/{shown} is in a storage class that has to be restored first", hint=hint)
    if code in ("AccessDenied", "403", "AllAccessDisabled"):
        hint = "allow s3:ListBucket" if verb == "list" else "allow s3:GetObject, and kms:Decrypt for its key"
        return SourceDenied(message, hint=hint, path=key)
    return SourceError(message, hint="look at what the server says", path=key, code=code)
