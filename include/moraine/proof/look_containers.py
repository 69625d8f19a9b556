"""Tar, zip and gzip: every member is listed and every checksum they carry is computed; nothing is unpacked to disk."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

from moraine.proof.look import Look

_BLOCK = 1 << 20
_END_OF_TAR = 1024  # bytes of zeros
_OPENERS: tuple[tuple[bytes, Any], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\x00", lzma.open),
)
_BROKEN = (EOFError, OSError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, NotImplementedError)


def look_container(path: Path) -> Look:
    """List a container by its first bytes; the ending only tells whether a compressed file is a tar."""
    with path.open("rb") as file:
        head = file.read(8)
    name = path.name.lower()
    is_tar = ".tar" in name or name.endswith(".tgz")
    opener = next((opener for magic, opener in _OPENERS if head.startswith(magic)), None)
    try:
        if head.startswith(b"PK"):
            return _zip(path)
        if opener is None and not is_tar:
            return Look("its first bytes are those of no tar, zip or gzip file")
        with (opener or open)(path, "rb") as stream:
            return _tar(stream) if is_tar else _drain(stream)
    except _BROKEN as error:
        return Look(f"it does not list: {error or type(error).__name__}")


def _zip(path: Path) -> Look:
    with zipfile.ZipFile(path) as container:
        members = container.infolist()
        if any(member.flag_bits & 1 for member in members):
            return Look(rows=len(members))  # encrypted: it lists, the content cannot be compared
        bad = container.testzip()
        return Look(f"member {bad} does not match its checksum" if bad else None, len(members))


class _Watched:
    """A stream that remembers its last bytes."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.last = b""

    def read(self, size: int = _BLOCK) -> bytes:
        data = self._stream.read(size)
        self.last = (self.last + data)[-_END_OF_TAR:]
        return data


def _tar(stream: IO[bytes]) -> Look:
    watched = _Watched(stream)
    with tarfile.open(fileobj=watched, mode="r|", bufsize=_BLOCK) as container:  # type: ignore[call-overload]
        members = 0
        for _ in container:
            members += 1
            container.members = []  # it keeps them otherwise, however many there are
    while watched.read():
        pass
    # The library takes a tar that was cut between two members for a whole one.
    ended = watched.last == bytes(_END_OF_TAR)
    return Look(None if ended else "it is cut off: the empty blocks at its end are missing", members)


def _drain(stream: IO[bytes]) -> Look:
    while stream.read(_BLOCK):
        pass
    return Look(rows=1)
