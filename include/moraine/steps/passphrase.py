"""Passphrase files: one reading of them for the command line and for DAGs."""

from __future__ import annotations

from pathlib import Path

from moraine.errors import ConfigError

_LARGEST = 1 << 16  # bytes; more is some other file


def read_passphrase(path: str | Path) -> bytes:
    """The whole content of a passphrase file but for one newline at its end; so a file of random bytes counts in full.

    Raises:
        ConfigError: it cannot be read, is empty, or is far too large to be one.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise ConfigError(
            f"cannot read the passphrase file {path}: {error.strerror}", hint="check its name and who may read it"
        ) from error
    if len(content) > _LARGEST:
        raise ConfigError(f"the passphrase file {path} is larger than 64 KiB", hint="is it the right file?")
    secret = content.removesuffix(b"\r\n") if content.endswith(b"\r\n") else content.removesuffix(b"\n")
    if not secret:
        raise ConfigError(f"the passphrase file {path} is empty", hint="write a passphrase into it")
    return secret
