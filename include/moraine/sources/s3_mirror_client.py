"""The requests that change a mirror in a bucket: those of every writer, and copies to the trash."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from moraine.errors import AccessDenied, RestoreError
from moraine.sources.s3_client import S3Bucket
from moraine.sources.s3_writer import Refused, S3Writer

_GONE = frozenset({"NoSuchKey", "404"})


class MirrorBucket(S3Writer):
    """Writes objects; what concerns one object alone is an OSError. Safe for several threads, as SDK clients are."""

    again = "try again: the run goes on where it stopped"

    def __init__(self, client: Any, bucket: str) -> None:
        """Use a boto3 client; nothing is asked yet."""
        super().__init__(client, bucket)
        self.client = client
        self.reading = S3Bucket(client, bucket)

    def keep(self, key: str, to: str) -> bool:
        """Copy an object within the bucket as it is, of any size; False when there is none."""
        with self._call("copy", key):
            try:
                self.client.copy({"Bucket": self.bucket, "Key": key}, self.bucket, to)
            except self.client.exceptions.ClientError as error:
                if str(error.response.get("Error", {}).get("Code")) in _GONE:
                    return False
                raise
        return True

    def remove(self, keys: Sequence[str]) -> None:
        """Delete objects. Raises AccessDenied when one of them stays."""
        stay = self.delete(keys)
        if stay:
            key, why = stay[0]
            message = f"s3://{self.bucket}: cannot delete {key!r}: {why} ({len(stay)} of {len(keys)})"
            raise AccessDenied(message, hint="allow s3:DeleteObject, and end what retains the objects")

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys under a prefix."""
        token: str | None = None
        while True:
            page = self.reading.page(prefix, token=token)
            yield from (item.key for item in page.objects)
            token = page.token
            if token is None:
                return

    def _refused(self, verb: str, key: str, error: Mapping[str, Any]) -> Exception:
        found = super()._refused(verb, key, error)
        if not isinstance(found, Refused) or verb.startswith("abort"):
            return found
        if verb in ("write", "complete", "copy to"):
            return OSError(errno.EINVAL, f"refused: {found}")
        return RestoreError(f"cannot {verb} s3://{self.bucket}/{key}: {found}", hint="look at what the server says")
