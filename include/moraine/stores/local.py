"""A store in a local directory, durable and create-only; knows files, nothing of what is in them.

An object is written aside under `.tmp/`, synced, linked to its final name and the directory is synced: whatever dies in
between leaves a stray in `.tmp/`, never half an object. Strays older than a day are swept by the next writer.
An object cannot be the directory of others here: `a` and `a/b` exclude each other.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

from moraine.errors import MoraineError, ObjectExists, ObjectNotFound
from moraine.stores.base import Buffer, ObjectInfo
from moraine.stores.local_files import (
    LINKLESS,
    directory_entries,
    failure,
    rename_without_replacing,
    sync_directory,
    write_all,
)
from moraine.stores.names import check_key, check_prefix

_TEMP = ".tmp"  # no key can name it: components do not begin with a dot
_STRAY_SECONDS = 24 * 3600


class LocalStore:
    """Objects as files under a directory, private to their owner; the directory is made by the first put."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._root = os.path.abspath(path)
        self._temp = os.path.join(self._root, _TEMP)
        self.url = self._root
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._ready = False
        self._settled: set[str] = set()  # directories known to be durable all the way up to the root

    def put(self, key: str, data: Buffer) -> None:
        """Create an object; durable once this returns. Raises ObjectExists."""
        target = self._path(key)
        directory = os.path.dirname(target)
        try:
            self._prepare()
            with self._written_aside(data) as temp:
                created = self._publish(temp, target)
            self._settle(directory)  # also when it exists: whoever made it may have died before this
        except OSError as error:
            raise self._failed("write", key, error) from error
        if not created:
            raise ObjectExists(f"{self.url}: {key} exists already", object=key)

    def get(self, key: str) -> bytes:
        """The whole object. Raises ObjectNotFound."""
        try:
            with open(self._path(key), "rb", buffering=0) as file:
                return file.readall()
        except OSError as error:
            raise self._failed("read", key, error) from error

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """A part of it, shorter only where the object ends. Raises ObjectNotFound."""
        try:
            with open(self._path(key), "rb", buffering=0) as file:
                return b"".join(_parts(file.fileno(), start, length))
        except OSError as error:
            raise self._failed("read", key, error) from error

    def head(self, key: str) -> ObjectInfo:
        """Size and time. Raises ObjectNotFound."""
        try:
            found = os.stat(self._path(key))
        except OSError as error:
            raise self._failed("look at", key, error) from error
        if not stat.S_ISREG(found.st_mode):
            raise ObjectNotFound(f"{self.url}: {key} is not there", object=key)
        return _info(key, found)

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[ObjectInfo]:
        """Objects under `prefix` in byte order of keys; holds the names of one directory per level."""
        check_prefix(prefix)
        if after is not None:
            check_key(after)
        return self._walk(prefix, after or "")

    def delete(self, key: str) -> None:
        """Remove an object; its directory stays, so that a put never races with its removal."""
        try:
            os.unlink(self._path(key))
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise self._failed("delete", key, error) from error

    def _path(self, key: str) -> str:
        check_key(key)
        return f"{self._root}/{key}"

    def _failed(self, verb: str, key: str, error: OSError) -> MoraineError:
        return failure(error, verb=verb, key=key, root=self._root)

    def _prepare(self) -> None:
        """Make the directory and sweep strays, once per store."""
        if self._ready:
            return
        with self._lock:
            if self._ready:
                return
            self._make_directories(self._temp)
            self._sweep()
            self._ready = True

    def _sweep(self) -> None:
        """Remove strays, by the clock of the file system: that of the newest file is now."""
        temp, handle = self._create_temp()
        try:
            now = os.fstat(handle).st_mtime
        finally:
            os.close(handle)
            os.unlink(temp)
        with os.scandir(self._temp) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # another writer sweeps too
                    if now - entry.stat(follow_symlinks=False).st_mtime > _STRAY_SECONDS:
                        os.unlink(entry.path)

    def _create_temp(self) -> tuple[str, int]:
        while True:
            temp = f"{self._temp}/{os.getpid()}-{next(self._numbers)}"
            with contextlib.suppress(FileExistsError):  # a stray, or another host's process of this number
                return temp, os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    @contextlib.contextmanager
    def _written_aside(self, data: Buffer) -> Iterator[str]:
        """A synced file with this content; gone at the end, unless it was renamed."""
        temp, handle = self._create_temp()
        try:
            try:
                write_all(handle, data)
                os.fsync(handle)
            finally:
                os.close(handle)
            yield temp
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temp)

    def _publish(self, temp: str, target: str) -> bool:
        """Give the file its final name; False when that is taken."""
        try:
            return self._link(temp, target)
        except FileNotFoundError:
            self._make_directories(os.path.dirname(target))
            return self._link(temp, target)

    def _link(self, temp: str, target: str) -> bool:
        try:
            os.link(temp, target)
        except FileExistsError:
            # Over NFS an answer can get lost and the call be sent again: two links mean that it was ours.
            return os.stat(temp).st_nlink == 2
        except OSError as error:
            if error.errno not in LINKLESS:
                raise
            return rename_without_replacing(temp, target)
        return True

    def _make_directories(self, directory: str) -> None:
        """Make a directory and those above it, and make the new names durable."""
        missing = []
        while not os.path.isdir(directory):
            missing.append(directory)
            directory = os.path.dirname(directory)
        for path in reversed(missing):
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)
            sync_directory(os.path.dirname(path))

    def _settle(self, directory: str) -> None:
        """Sync a directory; the first time also those above it, which another process may just have made."""
        sync_directory(directory)
        if directory in self._settled:
            return
        above = directory
        while above != self._root:
            above = os.path.dirname(above)
            sync_directory(above)
        self._settled.add(directory)

    def _walk(self, prefix: str, after: str) -> Iterator[ObjectInfo]:
        try:
            entries = directory_entries(self._root, prefix)
        except OSError as error:
            raise self._failed("list", prefix, error) from error
        for name, entry in entries:
            key = prefix + name
            if name.endswith("/"):
                if key > after or after.startswith(key):
                    yield from self._walk(key, after)
            elif key > after:
                try:
                    found = entry.stat()
                except FileNotFoundError:  # deleted while the listing went on
                    continue
                except OSError as error:
                    raise self._failed("look at", key, error) from error
                yield _info(key, found)


def _info(key: str, found: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))


def _parts(handle: int, start: int, length: int) -> Iterator[bytes]:
    while length > 0 and (part := os.pread(handle, length, start)):
        yield part
        start += len(part)
        length -= len(part)
