"""What an error of the S3 SDK means here. The SDK tells the HTTP status and the server's words only in its message."""

from __future__ import annotations

import re
from typing import Any

from moraine.errors import (
    AccessDenied,
    MoraineError,
    ObjectExists,
    ObjectNotFound,
    StoreError,
    StoreFull,
    StoreUnavailable,
)

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([^<]+)</Code>")
_WORDS = re.compile(r"<Message>([^<]+)</Message>")
_REASON = re.compile(r'\b(?:message|error|value): "([^"]+)"')
_REDIRECTED = "incorrectly configured region"

_LOGIN = "External AWS credential provider"
_NO_ANSWER = re.compile(r"(Connection\w*Error|Timeout\w*|Throttling\w*|ServiceUnavailable)\b")

_DENIED = {401, 403}
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_PASSING_CODES = {"RequestTimeout", "SlowDown", "OperationAborted", "ConditionalRequestConflict"}
_FULL_CODES = {"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"}
_EXPIRED_CODES = {"ExpiredToken", "ExpiredTokenException", "InvalidToken"}
_OUTDATED_CODES = _EXPIRED_CODES | {"InvalidAccessKeyId"}
# Said with 400, or by versitygw with 404, which must not pass for an object that is not there.
_KEY_CODES = _OUTDATED_CODES | {"XAdminUserNotFound"}
_PATH_CODES = {"ObjectParentIsFile", "ExistingObjectIsDirectory"}  # versitygw, with 409
_HINTS = {
    "RequestTimeTooSkewed": "set this machine's clock",
    "ExpiredToken": "the credentials have expired: renew them",
    "InvalidAccessKeyId": "the server does not know this access key",
    "XAdminUserNotFound": "the server does not know this access key",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key",
}


def failure(error: Exception, *, verb: str, key: str, url: str) -> MoraineError:
    """The error of this project for one that the SDK raised while it did `verb` to `key`.

    Its context says `outdated` where newer credentials may be all that is needed.
    """
    text = str(error)
    status = int(found[1]) if (found := _STATUS.search(text)) else None
    code = found[1] if (found := _CODE.search(text)) else ""
    message = f"{url}: cannot {verb} {key or 'the bucket'}: {_words(text, status, code)}"
    kind, hint = _kind(error, text, status, code, verb)
    if kind is ObjectNotFound:
        message = f"{url}: {key} is not there"
    if kind is ObjectExists:
        message = f"{url}: {key} exists already"
    context: dict[str, Any] = {"object": key, "status": status}
    # An answer to HEAD has no body to say why: with credentials that have expired it is a bare 400.
    if code in _OUTDATED_CODES or (status == 400 and not code and verb == "look at"):
        context["outdated"] = True
    return kind(message, hint=hint, **context)


def _kind(
    error: Exception, text: str, status: int | None, code: str, verb: str
) -> tuple[type[MoraineError], str | None]:
    if _LOGIN in text:  # what it hands on is the name and the words of an error of boto3
        if _NO_ANSWER.search(text):
            return StoreUnavailable, "look at the endpoint of STS"
        return AccessDenied, "look at the keys, and whether they may still assume the role"
    if code == "NoSuchBucket":
        return StoreError, "make the bucket first, or correct its name or the endpoint"
    if code in _FULL_CODES or status == 507:
        return StoreFull, "free space or raise the quota"
    if status in _DENIED or code in _KEY_CODES or type(error).__name__ == "UnauthenticatedError":
        return AccessDenied, _HINTS.get(code, _denied_hint(verb))
    if code in _PATH_CODES:
        return StoreError, "this server keeps objects as files: no object `a` can stand beside `a/b`"
    if status in (409, 412) and verb == "write":
        return ObjectExists, None
    if status == 404:
        return ObjectNotFound, None
    if status in _PASSING or code in _PASSING_CODES:
        return StoreUnavailable, "try again"
    if _REDIRECTED in text:
        return StoreError, "the bucket is in another region: name that one"
    if status == 501 and verb == "write":
        return StoreError, "the server does not support If-None-Match on PUT, which Moraine relies on"
    if status is None and "HttpError" in text and "builder error" not in text:
        return StoreUnavailable, "look at the endpoint, the network and the certificate"
    return StoreError, None


def _denied_hint(verb: str) -> str:
    if verb in ("read", "look at"):
        return "allow s3:GetObject and s3:ListBucket; without the latter a missing object is denied, too"
    return {
        "write": "allow s3:PutObject",
        "delete": "allow s3:DeleteObject",
        "list": "allow s3:ListBucket",
    }[verb]


def _words(text: str, status: int | None, code: str) -> str:
    """The short reason inside the SDK's long one."""
    if status is not None:
        words = found[1] if (found := _WORDS.search(text)) else ""
        return " ".join(part for part in (f"HTTP {status}", code, words) if part)
    if "TimedOut" in text:
        return "timed out"
    reasons = _REASON.findall(text)
    return reasons[-1] if reasons else text.partition("\n")[0]
