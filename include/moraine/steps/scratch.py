"""A directory that only this user can enter, for restored copies; removed with whatever modes and names it holds."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moraine.errors import RestoreError
from moraine.model.entry import Kind
from moraine.sources.posix_target import PosixTarget
from moraine.sources.target import Extra


@contextmanager
def closed_directory(path: Path) -> Iterator[None]:
    """A new directory that only this user can enter; removed at the end with all that is in it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700)
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        yield
    except OSError as error:
        raise _unusable(path, error) from error
    finally:
        remove_tree(path)


def remove_tree(path: Path) -> None:
    """Remove a directory with all that was restored into it. Raises RestoreError when something stays."""
    name = os.fsencode(path.name)
    try:
        if os.geteuid():
            _make_removable(path)
        with PosixTarget(path.parent).writer(owners="keep") as writer:
            writer.remove(Extra(b"", name, Kind.DIRECTORY, 1, 0))
    except OSError as error:
        raise _unusable(path, error) from error
    if path.exists():
        raise RestoreError(f"the scratch {path} could not be removed", hint="remove it by hand", target=str(path))


def _make_removable(path: Path) -> None:
    """Restored directories may be closed even to their owner; root does not care."""
    for _, folders, _, fd in os.fwalk(path):
        for name in folders:
            if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                os.chmod(name, 0o700, dir_fd=fd)


def _unusable(path: Path, error: OSError) -> RestoreError:
    return RestoreError(
        f"the scratch {path} cannot be used: {error.strerror}",
        hint="choose a directory on a disk with room that this user may write to",
        target=str(path),
    )
