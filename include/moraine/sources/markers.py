"""Marker files: a directory that holds one is left out, but for itself and the marker. Knows descriptors, no walk."""

from __future__ import annotations

import os
import stat

from moraine.errors import ConfigError
from moraine.model.record import dataclass

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Marker:
    """A file of this name whose content begins with `header`."""

    name: bytes
    header: bytes = b""

    def is_in(self, directory: int) -> bool:
        """Whether the open directory holds the marker. What cannot be read marks nothing."""
        try:
            if not self.header:
                os.stat(self.name, dir_fd=directory, follow_symlinks=False)
                return True
            fd = os.open(self.name, _OPEN, dir_fd=directory)
        except OSError:
            return False
        try:
            return stat.S_ISREG(os.fstat(fd).st_mode) and os.pread(fd, len(self.header), 0) == self.header
        except OSError:
            return False
        finally:
            os.close(fd)


CACHE = Marker(b"CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55")  # bford.info/cachedir


def parse_marker(text: str) -> Marker:
    """Read `name` or `name:header`.

    Raises:
        ConfigError: the name cannot be one of a file.
    """
    name, _, header = text.partition(":")
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ConfigError(
            f"bad marker file {text!r}: {name!r} is no file name",
            hint="write a plain file name, or `name:header` to look at how the file begins",
        )
    return Marker(os.fsencode(name), os.fsencode(header))


def find_marker(directory: int, markers: tuple[Marker, ...]) -> Marker | None:
    """The first of `markers` that the open directory holds."""
    for marker in markers:
        if marker.is_in(directory):
            return marker
    return None
