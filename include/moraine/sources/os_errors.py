"""Operating system errors as errors of the source. Knows errno, nothing of files or walks."""

from __future__ import annotations

import errno

from moraine.errors import SourceDenied, SourceError, SourceVanished
from moraine.model.entry import display_path

# A name that has become a symlink, a socket or no directory is as gone as one that was deleted.
UNLINKED = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
GONE = UNLINKED | {errno.ESTALE, errno.ENXIO, errno.ENODEV}
FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})
NO_ATTRIBUTES = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})


def source_error(error: OSError, path: bytes, what: str) -> SourceError:
    """The error to raise from `error`; `what` says what was tried, as in `cannot <what> <path>`."""
    shown = display_path(path) or "."
    if error.errno in GONE:
        return SourceVanished(f"{shown} has gone since it was listed", path=path)
    reason = (error.strerror or str(error)).lower()
    if error.errno in FORBIDDEN:
        return SourceDenied(
            f"cannot {what} {shown}: {reason}",
            hint="run as a user who may read it, or exclude it in the policy",
            path=path,
        )
    hint = "the disk or the network file system reports a fault: look at the kernel's log (dmesg)"
    if error.errno in OUT_OF_DESCRIPTORS:
        hint = "raise the limit of open files (ulimit -n)"
    return SourceError(f"cannot {what} {shown}: {reason}", hint=hint, path=path)
