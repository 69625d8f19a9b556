"""JSON objects of a repository that anybody can read: authenticated (the log), or checked only (key slots).

Loads no ciphers: slots are read before anything else, see `repository.unlock`.
"""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from moraine.errors import DamagedObject, ForgedObject

if TYPE_CHECKING:
    from moraine.repository.keys import Keyring


def digest(data: bytes) -> str:
    """How objects name each other: BLAKE3 of the stored bytes, hex."""
    return blake3(data).hexdigest()


def canonical(content: Any) -> bytes:
    """JSON with sorted keys, no spaces, UTF-8."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def write_open(content: Any, *, key: str, keyring: Keyring | None) -> bytes:
    """Two lines of JSON: the content, and its checksum and authentication code.

    Without a keyring (key slots, read before there is one) only the checksum is written.
    """
    line = canonical(content)
    seals = {"blake3": digest(line)}
    if keyring:
        seals["mac"] = keyring.mac(key, line)
    return line + b"\n" + canonical(seals) + b"\n"


def read_open(data: bytes, *, key: str, keyring: Keyring | None) -> Any:
    """The content of an open document. Raises DamagedObject for a wrong checksum, ForgedObject for a wrong code."""
    line, _, rest = data.partition(b"\n")
    try:
        seals = json.loads(rest)
        checksum = seals["blake3"]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedObject(f"{key} is cut off or not a document", hint="run `moraine check`", object=key) from error
    if rest != canonical(seals) + b"\n" or checksum != digest(line):
        raise DamagedObject(f"{key} does not match its checksum", hint="run `moraine check`", object=key)
    if keyring and not hmac.compare_digest(str(seals.get("mac", "")), keyring.mac(key, line)):
        raise ForgedObject(
            f"{key} was not written by a holder of this repository's keys",
            hint="somebody changed, swapped or added it; restore the object from a copy of the store",
            object=key,
        )
    return json.loads(line)
