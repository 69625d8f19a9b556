"""A local directory as a mirror: how it is looked at, and what lies in its trash. Writing is `posix_mirror_writer`."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

import pyarrow as pa

from moraine.errors import RestoreError, SourceMissing, SourceUnmounted, UnsafePath
from moraine.model.entry import Kind
from moraine.sources.base import ListShard
from moraine.sources.excludes import ExcludeRules
from moraine.sources.mirror import LookAt, MirrorFacts, MirrorWriter, trash_time
from moraine.sources.posix import PosixSource
from moraine.sources.posix_mirror_writer import ASIDE, PosixMirrorWriter
from moraine.sources.posix_target import PosixLooker, PosixTarget
from moraine.sources.posix_target_placing import reason
from moraine.sources.posix_target_tree import Tree
from moraine.sources.target import Content, Extra


class PosixMirror:
    """A directory that is kept like a source (`sources.mirror.Mirror`)."""

    kinds = frozenset(Kind)
    links = True
    width = 1  # the walk down to a file is one for all

    def __init__(self, path: str | os.PathLike[str], state: str, *, must_be_mount: bool = False) -> None:
        """Args: `state` is the name of the folder, at the top, that holds what the mirror knows of itself."""
        self._path = os.fsencode(os.path.abspath(path))
        self._state = os.path.join(self._path, state.encode())
        self._excludes = ExcludeRules.build([f"/{state}"])
        self._state_name = state
        self._must_be_mount = must_be_mount

    @property
    def url(self) -> str:
        """The path."""
        return os.fsdecode(self._path)

    def probe(self) -> MirrorFacts:
        """Look at it.

        Raises:
            SourceUnmounted: nothing is mounted there, and the policy asks for it.
            RestoreError: it is no directory, or cannot be read.
        """
        if self._must_be_mount and not os.path.ismount(self._path):
            raise SourceUnmounted(
                f"nothing is mounted at the mirror {self.url}",
                hint="mount it, or take `must_be_mount` out of the policy's destination",
            )
        owners = os.geteuid() == 0
        try:
            with os.scandir(self._path) as entries:
                empty = all(entry.name == os.fsencode(self._state_name) for entry in entries)
        except FileNotFoundError:
            return MirrorFacts(False, True, owners)
        except OSError as error:
            hint = "choose a directory that this user may write to"
            raise RestoreError(f"cannot look into {self.url}: {reason(error)}", hint=hint, target=self.url) from error
        return MirrorFacts(True, empty, owners)

    def entries(self) -> Iterator[pa.RecordBatch]:
        """What is in the tree. Raises RestoreError."""
        try:
            yield from PosixSource(self.url, self._excludes).list(ListShard("all"))
        except SourceMissing as error:
            raise RestoreError(f"the mirror {self.url} is gone", hint="mount or make it again") from error

    @contextmanager
    def reader(self) -> Iterator[LookAt]:
        """Open the tree for reading files."""
        with Tree(self._path) as tree:
            yield _opener(tree)

    def trashes(self) -> list[str]:
        """The names of all trashes, oldest first."""
        try:
            return sorted(name for name in os.listdir(self._folder) if trash_time(name))
        except FileNotFoundError:
            return []

    @contextmanager
    def trash(self, name: str) -> Iterator[LookAt]:
        """Open a trash for reading files."""
        with Tree(os.path.join(os.fsencode(self._folder), name.encode())) as tree:
            yield _opener(tree)

    def purge(self, before: datetime) -> list[str]:
        """Remove trashes from before that time."""
        gone = [name for name in self.trashes() if _older(name, before)]
        return self._remove(self._folder, gone)

    def sweep(self, working: Collection[str]) -> None:
        """Remove what killed runs have left aside; `working` begins the marks of those that may still be at work."""
        folder = os.fsdecode(os.path.join(self._state, ASIDE))
        with suppress(FileNotFoundError):
            left = [name for name in os.listdir(folder) if not name.startswith(tuple(working))]
            self._remove(folder, left)

    @contextmanager
    def writer(self, trash: str, mark: str) -> Iterator[MirrorWriter]:
        """Open for writing."""
        try:
            os.makedirs(self._path, exist_ok=True)
            writer = PosixMirrorWriter(self._path, self._state, trash, mark)
        except OSError as error:
            hint = "choose a directory that this user may write to"
            raise RestoreError(f"cannot write to {self.url}: {reason(error)}", hint=hint, target=self.url) from error
        with writer:
            yield writer

    @property
    def _folder(self) -> str:
        return os.fsdecode(os.path.join(self._state, b"trash"))

    def _remove(self, folder: str, names: list[str]) -> list[str]:
        if not names:
            return []
        with PosixTarget(folder).writer(owners="keep") as writer:
            for name in names:
                writer.remove(Extra(b"", os.fsencode(name), int(Kind.DIRECTORY), 1, 0))
        left = set(os.listdir(folder))
        stuck = [name for name in names if name in left]
        if stuck:
            raise RestoreError(f"{stuck[0]} in {folder} could not be removed", hint="remove it by hand, as its owner")
        return names


def _older(name: str, before: datetime) -> bool:
    at = trash_time(name)
    return at is not None and at < before


def _opener(tree: Tree) -> LookAt:
    looker = PosixLooker(tree)

    def look(directory: bytes, name: bytes) -> Content | None:
        try:
            return looker.open(directory, name)
        except UnsafePath:
            return None

    return look
