"""Key files: new ones; `passphrase.py` reads them like any passphrase file."""

from __future__ import annotations

from pathlib import Path

from moraine.errors import ConfigError
from moraine.repository.key_slots import generate_key
from moraine.repository.keys import Entropy
from moraine.steps.private_file import create_private


def write_key_file(path: str | Path, entropy: Entropy) -> None:
    """A new generated key in a new file, which only its owner can read.

    Raises:
        ConfigError: there is something of that name, or it cannot be written.
    """
    try:
        create_private(Path(path), generate_key(entropy) + "\n")
    except FileExistsError as error:
        raise ConfigError(
            f"{path} is there already and is left as it is", hint="name a new file: a key that is overwritten is lost"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"cannot write the key file {path}: {error.strerror}", hint="check its name and who may write there"
        ) from error
