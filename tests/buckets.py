"""What is in a bucket, by list and get alone: independent of how Moraine reads one."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

OURS = "moraine-digest"
_HEADERS = (
    "ContentType", "ContentEncoding", "ContentDisposition", "ContentLanguage", "CacheControl",
    "WebsiteRedirectLocation",
)  # fmt: skip


def objects(client: Any, bucket: str, prefix: str = "") -> dict[str, dict[str, Any]]:
    """Every object under a prefix by the rest of its key: body, ETag, headers, metadata; but for our own mark."""
    found = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", ()):
            answer = client.get_object(Bucket=bucket, Key=item["Key"])
            metadata = {name: value for name, value in answer["Metadata"].items() if name != OURS}
            headers = {name: answer[name] for name in _HEADERS if answer.get(name)}
            found[item["Key"][len(prefix) :]] = {
                "body": answer["Body"].read(), "etag": answer["ETag"], "metadata": metadata, **headers
            }  # fmt: skip
    return found


Meant = dict[str, tuple[bytes, dict[str, str]]]  # body and metadata by key


def expected_of_tree(root: Path, *, markers: bool = False, owners: bool = True) -> Meant:
    """What a tree has to become. Walks by descriptors, for paths may be too long, and knows no hard links."""
    found: Meant = {}
    base = os.fsencode(root)
    for at, folders, files, fd in os.fwalk(base):
        for name in [*files, *folders]:
            seen = os.lstat(name, dir_fd=fd)
            kind = stat.S_IFMT(seen.st_mode)
            if kind not in (stat.S_IFREG, stat.S_IFLNK) and not (markers and kind == stat.S_IFDIR):
                continue
            seconds, ns = divmod(abs(seen.st_mtime_ns), 10**9)
            metadata = {
                "mtime": f"{'-' if seen.st_mtime_ns < 0 else ''}{seconds}.{ns:09d}",
                "mode": "0" + format(seen.st_mode, "o"),
            }
            if owners:
                metadata |= {"uid": str(seen.st_uid), "gid": str(seen.st_gid)}
            key = os.path.relpath(os.path.join(at, name), base) + (b"/" if kind == stat.S_IFDIR else b"")
            found[_quoted(key)] = (_body(fd, name, kind), metadata)
    return found


def _body(parent: int, name: bytes, kind: int) -> bytes:
    if kind == stat.S_IFREG:
        with open(os.open(name, os.O_RDONLY, dir_fd=parent), "rb") as file:
            return file.read()
    return os.readlink(name, dir_fd=parent) if kind == stat.S_IFLNK else b""


def _quoted(path: bytes) -> str:
    text = path.decode("utf-8", "surrogateescape").replace("\u201b", "\u201b\u201b")
    return "".join(f"\u201b{ord(c) - 0xDC00:02X}" if "\udc80" <= c <= "\udcff" else c for c in text)


def of_tree(client: Any, bucket: str, prefix: str = "") -> Meant:
    """What a bucket has, in the same form."""
    return {key: (found["body"], found["metadata"]) for key, found in objects(client, bucket, prefix).items()}


def uploads(client: Any, bucket: str) -> list[str]:
    """Keys of uploads that are under way."""
    return [found["Key"] for found in client.list_multipart_uploads(Bucket=bucket).get("Uploads", ())]
