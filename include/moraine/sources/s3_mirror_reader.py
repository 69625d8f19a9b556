"""Reads objects of a mirror at any offset, a few MiB at a time."""

from __future__ import annotations

from moraine.sources.s3_client import S3Bucket

_PART = 8 << 20


class S3Content:
    """An object, open for reading (`sources.target.Content`); of one version, or it ends early."""

    def __init__(self, bucket: S3Bucket, key: str) -> None:
        """Ask for its beginning: all of most objects."""
        self._bucket = bucket
        self._key = key
        found = bucket.read(key, 0, _PART)
        self.size = found.size
        self._etag = found.etag
        self._start, self._data = 0, memoryview(found.data)

    def read_at(self, offset: int, view: memoryview) -> int:
        """Fill `view` from `offset`; fewer bytes only at the end."""
        done = 0
        while done < len(view) and offset + done < self.size:
            at = offset + done - self._start
            if not 0 <= at < len(self._data):
                found = self._bucket.read(self._key, offset + done, _PART)
                if found.etag != self._etag or not found.data:
                    break
                self._start, self._data, at = offset + done, memoryview(found.data), 0
            count = min(len(view) - done, len(self._data) - at)
            view[done : done + count] = self._data[at : at + count]
            done += count
        return done

    def close(self) -> None:
        """Let the part at hand go."""
        self._data = memoryview(b"")
