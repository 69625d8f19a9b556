"""Files that hold a secret: their owner's alone from the first moment, and whole or not there."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from moraine.stores.local_files import sync_directory


def create_private(file: Path, text: str) -> None:
    """Make a new file that only its owner can read; where writing it fails, it is removed again.

    Raises:
        FileExistsError: something has that name; it is left as it is.
        OSError: it cannot be written.
    """
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as output:
            output.write(text)
            output.flush()
            os.fsync(handle)
        with suppress(OSError):  # its content is safe; some directories may not be opened
            sync_directory(str(file.parent))
    except BaseException:  # half a secret must not stay under the name of a whole one
        file.unlink(missing_ok=True)
        raise
