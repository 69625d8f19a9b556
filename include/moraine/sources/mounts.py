"""Which file system a path is on, from the kernel's table of mounts. Knows paths only."""

from __future__ import annotations

import os
import re

from moraine.model.record import dataclass

_TABLE = "/proc/self/mountinfo"
_ESCAPED = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system."""

    point: bytes
    kind: str  # ext4, xfs, nfs4, fuse.sshfs, …


def mount_of(path: bytes) -> Mount | None:
    """The mount that holds an existing path; None where the kernel has no table of mounts."""
    try:
        with open(_TABLE, "rb") as table:
            mounts = [_parse(line) for line in table]
    except OSError:
        return None
    real = os.path.realpath(path)
    above = [mount for mount in mounts if real == mount.point or real.startswith(mount.point.rstrip(b"/") + b"/")]
    return max(reversed(above), key=lambda mount: len(mount.point), default=None)  # of equal ones, the topmost


def _parse(line: bytes) -> Mount:
    before, _, after = line.partition(b" - ")
    point = _ESCAPED.sub(lambda m: bytes([int(m[1], 8)]), before.split(b" ")[4])
    return Mount(point, os.fsdecode(after.split(b" ")[0]))
