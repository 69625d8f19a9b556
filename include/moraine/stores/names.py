"""Which keys a store accepts: those that mean the same object in every store and on every file system."""

from __future__ import annotations

import re

from moraine.errors import StoreError

MOST_BYTES = 900  # S3 takes 1024 bytes, the prefix of the store included

# No leading '.': it rules out '..' and keeps hidden names to the store itself. No '+': 'lost+found' is not an object.
_COMPONENT = r"[A-Za-z0-9_=-][A-Za-z0-9_.=-]{0,254}"
_NAME = re.compile(_COMPONENT)
_KEY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")


def is_component(name: str) -> bool:
    """Whether `name` may stand between two slashes of a key."""
    return _NAME.fullmatch(name) is not None


def is_key(key: str) -> bool:
    """Whether an object can have this key."""
    return len(key) <= MOST_BYTES and _KEY.fullmatch(key) is not None


def check_key(key: str) -> None:
    """Raises StoreError when no object can have this key."""
    if not is_key(key):
        raise StoreError(
            f"{key!r} is not an object key",
            hint="components of ASCII letters, digits and _ . = - that do not begin with a dot, joined by /",
            object=key,
        )


def check_prefix(prefix: str) -> None:
    """Raises StoreError unless `prefix` is empty or a key and a slash."""
    if prefix:
        check_key(prefix.removesuffix("/") if prefix.endswith("/") else "")
