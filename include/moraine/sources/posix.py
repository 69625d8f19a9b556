"""A directory tree as a source. Knows what its root has to be and how to split it; walk and reader do the work."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from moraine.errors import SourceDenied, SourceError, SourceMissing, SourceUnmounted
from moraine.model.entry import display_path, join_path
from moraine.sources import posix_walk
from moraine.sources.base import ListShard, SourceFacts
from moraine.sources.excludes import ExcludeRules, Explanation
from moraine.sources.mounts import mount_of
from moraine.sources.os_errors import FORBIDDEN
from moraine.sources.posix_explain import explain
from moraine.sources.posix_reader import PosixReader
from moraine.sources.posix_walk import Walk

if TYPE_CHECKING:
    import pyarrow as pa

    from moraine.sources.posix_ahead import WalkAhead

_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_DISCONNECTED = frozenset({errno.ENOTCONN, errno.ESTALE, errno.EHOSTDOWN})
_UNSTABLE = ("fuse", "cifs", "smb", "9p", "vboxsf", "virtiofs", "vmhgfs")  # inode numbers may change with each mount
_PARTS_PER_SHARD = 8  # finer than needed, so that shards even out
_WHOLE = ListShard("all")


class PosixSource:
    """A directory tree (`sources.base.Source`)."""

    kind = "posix"

    def __init__(
        self,
        path: str | os.PathLike[str],
        excludes: ExcludeRules | None = None,
        *,
        one_file_system: bool = False,
        must_be_mount: bool = False,
    ) -> None:
        """Describe the source; nothing is looked at yet.

        Args:
            path: its root; a symlink there is followed, none below is.
            excludes: what to leave out.
            one_file_system: list mount points, but do not enter them.
            must_be_mount: refuse to run when nothing is mounted at the root.
        """
        self.path = os.fsencode(path)
        self._excludes = excludes or ExcludeRules()
        self._one_file_system = one_file_system
        self._must_be_mount = must_be_mount
        self._ahead: WalkAhead | None = None

    def probe(self) -> SourceFacts:
        """Look at the root before anything is written.

        Raises:
            SourceMissing: nothing is there.
            SourceUnmounted: no file system is mounted there, and the policy asks for one; or it is disconnected.
            SourceDenied: it may not be listed.
            SourceError: it is no directory, or the disk failed.
        """
        shown = display_path(self.path)
        try:
            found = os.stat(self.path)
            if not stat.S_ISDIR(found.st_mode):
                raise SourceError(
                    f"{shown} is no directory", hint="give the directory that holds it, and exclude the rest"
                )
            with os.scandir(self.path) as entries:
                empty = next(entries, None) is None
        except OSError as error:
            raise self._refused(error) from error
        mount = mount_of(self.path)
        is_mount = os.path.ismount(self.path) or (mount is not None and mount.point == os.path.realpath(self.path))
        if self._must_be_mount and not is_mount:
            raise SourceUnmounted(
                f"nothing is mounted at {shown}" + (", it is an empty directory" if empty else ""),
                hint="mount the file system, or take `must_be_mount` out of the policy",
            )
        notes = []
        if empty:
            notes.append(f"{shown} is empty: if it is a mount point, nothing is mounted there")
        if mount and mount.kind.startswith(_UNSTABLE):
            notes.append(
                f"inode numbers of {mount.kind} may not last: if every file seems changed, set compare.inode: false"
            )
        info = {"file_system": mount.kind, "mounted_at": display_path(mount.point)} if mount else {}
        return SourceFacts(root=shown, device=found.st_dev, notes=tuple(notes), info=info)

    def as_of(self, at: datetime) -> PosixSource:
        """As it is: a file system has no history."""
        del at
        return self

    def shards(self, want: int) -> list[ListShard]:
        """Split the listing into at most `want` parts of about as many directories, found breadth first.

        A shard is a range in manifest order: all rows of the directories from `roots[0]` up to, but without,
        `stop_at[0]`. So the batches of shard 1, 2, 3 … put one after the other are the whole listing in manifest
        order, and a directory that appears meanwhile is in exactly one of them.
        """
        if want <= 1:
            return [_WHOLE]
        found = [b""]
        with Walk(self.path, self._excludes, one_file_system=self._one_file_system) as walk:
            for directory in found:  # grows meanwhile
                if len(found) >= want * _PARTS_PER_SHARD:
                    break
                found += [join_path(directory, name) for name in walk.subdirectories(directory)]
        found.sort(key=lambda path: path.replace(b"/", b"\0"))
        starts = sorted({len(found) * number // want for number in range(want)})
        if len(starts) < 2:
            return [_WHOLE]
        ends = [(found[start],) for start in starts[1:]]
        return [
            ListShard(f"part-{number:03}", (found[start],), end)
            for number, (start, end) in enumerate(zip(starts, [*ends, ()], strict=True), start=1)
        ]

    def list(self, shard: ListShard) -> Iterator[pa.RecordBatch]:
        """Entries of the shard: batches of about 64k rows of `model.schemas.INVENTORY`, in manifest order.

        Raises:
            SourceError: a directory whose row had already been delivered turned out to be unreadable.
        """
        from moraine.sources.posix_columns import to_batches

        if shard == _WHOLE and self._ahead:
            ahead, self._ahead = self._ahead, None
            yield from to_batches(ahead.pieces(), posix_walk.BATCH)
            return
        with Walk(self.path, self._excludes, one_file_system=self._one_file_system, shard=shard) as walk:
            yield from to_batches(walk.pieces(), posix_walk.BATCH)

    @contextmanager
    def begun(self) -> Iterator[bool]:
        """List the whole tree in another process meanwhile, for the first `list` of all of it; False where none can."""
        from moraine.sources.posix_ahead import walk_ahead

        ahead = self._ahead = walk_ahead(lambda: Walk(self.path, self._excludes, one_file_system=self._one_file_system))
        try:
            yield ahead is not None
        finally:
            self._ahead = None
            if ahead:
                ahead.close()

    def reader(self) -> PosixReader:
        """Open a reader; it is a context manager, and for one thread."""
        return PosixReader(self.path)

    def remarks(self) -> tuple[str, ...]:
        """None: a row that cannot be read says all there is."""
        return ()

    def explain(self, path: str | bytes | os.PathLike[str]) -> Explanation:
        """Why a path, absolute or relative to the root, is in a backup, or is not: rules and file system together."""
        return explain(self.path, path, self._excludes, one_file_system=self._one_file_system)

    def _refused(self, error: OSError) -> SourceError:
        shown = display_path(self.path)
        if error.errno in _NOT_THERE:
            return SourceMissing(
                f"there is no {shown}", hint="correct `source.path` in the policy, or mount what holds it"
            )
        if error.errno in _DISCONNECTED:
            return SourceUnmounted(f"{shown} is mounted but disconnected", hint="mount the file system again")
        reason = (error.strerror or str(error)).lower()
        if error.errno in FORBIDDEN:
            return SourceDenied(f"cannot list {shown}: {reason}", hint="run as a user who may read it")
        return SourceError(f"cannot list {shown}: {reason}", hint="look at the kernel's log (dmesg)")
