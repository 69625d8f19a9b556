"""JSON objects of a repository that nobody reads without its keys: snapshots, reports, working files."""

from __future__ import annotations

import json
from typing import Any

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from moraine.errors import DamagedObject, ForgedObject
from moraine.repository.documents import canonical, read_open, write_open
from moraine.repository.keys import Entropy, Keyring

MAGIC = b"MORDOC1\n"


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
