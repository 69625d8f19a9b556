"""What a directory has beside a snapshot, found directory by directory. Follows no link: it asks for names only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from moraine.model.entry import join_path
from moraine.sources.target import Asked, Extra

_LOST_FOUND = b"lost+found"  # at the top: the file system's own


class PosixBeside:
    """Finds extras in manifest order (`sources.target.Beside`); holds the names of one directory at a time."""

    def __init__(
        self, asked: Asked, names: Callable[[bytes], list[bytes]], weigh: Callable[[bytes, bytes], Extra]
    ) -> None:
        """`names` of a directory of the target, and `weigh` for what an extra holds."""
        self._asked = asked
        self._list = names
        self._weigh = weigh
        self._directory: bytes | None = None
        self._left: set[bytes] = set()
        self._listed: set[bytes] = set()
        self._found: list[Extra] = []

    def known(self, directory: bytes, names: Sequence[bytes], kinds: Sequence[int]) -> None:
        """Some names that the snapshot has in a directory of the target."""
        del kinds  # what has the name of something else is in its way, not beside it
        if directory != self._directory:
            self._end()
            self._directory = directory
            self._listed.add(directory)
            self._left = set(self._names(directory))
        if self._left:
            self._left.difference_update(names)

    def extras(self, there: Iterable[bytes]) -> list[Extra]:
        """All extras."""
        self._end()
        for directory in there:
            if directory not in self._listed:
                self._directory, self._left = directory, set(self._names(directory))
                self._end()
        return self._found

    def _names(self, directory: bytes) -> list[bytes]:
        if not self._asked.covers(directory):
            return []
        return [name for name in self._list(directory) if directory or name != _LOST_FOUND]

    def _end(self) -> None:
        for name in sorted(self._left):
            assert self._directory is not None
            if not self._asked.excludes(join_path(self._directory, name)):
                self._found.append(self._weigh(self._directory, name))
        self._left = set()
