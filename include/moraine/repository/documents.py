"""JSON objects of a repository: open but authenticated (the log), or sealed (snapshots, reports, working files)."""

from __future__ import annotations

import json
from typing import Any

import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from moraine.errors import DamagedObject, ForgedObject
from moraine.repository.keys import Entropy, Keyring, equal

MAGIC = b"MORDOC1\n"


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
    if keyring and not equal(str(seals.get("mac", "")), keyring.mac(key, line)):
        raise ForgedObject(
            f"{key} was not written by a holder of this repository's keys",
            hint="somebody changed, swapped or added it; restore the object from a copy of the store",
            object=key,
        )
    return json.loads(line)


def write_sealed(content: Any, *, key: str, keyring: Keyring, entropy: Entropy) -> bytes:
    """A document nobody without the metadata key can read; in a plain repository an open one."""
    if not keyring.encrypted:
        return write_open(content, key=key, keyring=keyring)
    nonce = entropy(12)
    body = zstandard.ZstdCompressor(level=3).compress(canonical(content))
    return MAGIC + nonce + AESGCM(keyring.document_key(key)).encrypt(nonce, body, MAGIC + key.encode())


def read_sealed(data: bytes, *, key: str, keyring: Keyring) -> Any:
    """The content of a sealed document. Raises DamagedObject, ForgedObject."""
    if not keyring.encrypted:
        return read_open(data, key=key, keyring=keyring)
    if not data.startswith(MAGIC):
        raise DamagedObject(f"{key} is not a sealed document", hint="run `moraine check`", object=key)
    nonce, body = data[len(MAGIC) : len(MAGIC) + 12], data[len(MAGIC) + 12 :]
    try:
        plain = AESGCM(keyring.document_key(key)).decrypt(nonce, body, MAGIC + key.encode())
    except (InvalidTag, ValueError) as error:
        raise ForgedObject(
            f"{key} fails its authentication tag: it was damaged, swapped or forged",
            hint="run `moraine check`; restore the object from a copy of the store",
            object=key,
        ) from error
    return json.loads(zstandard.ZstdDecompressor().decompress(plain))
