"""Key slots: the key bundle, wrapped for one passphrase or one generated key; and the form of generated keys.

A passphrase is stretched by scrypt (RFC 7914), since a person made it up. A generated key is 256 random bits, which
nobody can try out: BLAKE3 binds it to its slot, at no cost. Which of them a secret is, its form alone tells.

Ciphers are loaded when they are needed, so that a passphrase is stretched while the program loads them.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from moraine.errors import ConfigError, DamagedObject, WrongPassphrase

if TYPE_CHECKING:
    from moraine.repository.keys import Entropy, Keyring

Stretch = Callable[[dict[str, Any], bytes], bytes]

SCRYPT = {"n": 1 << 16, "r": 8, "p": 1}  # 64 MiB, about 0.15 s; RFC 7914 parameters

_MARK = "moraine-key-"
_DERIVATION = {"passphrase": "scrypt", "key": "blake3"}  # by kind of slot
_NAMES = {"passphrase": "passphrase", "key": "generated key"}


def generate_key(entropy: Entropy) -> str:
    """A new generated key, as the text that its holder keeps."""
    key = entropy(32)
    return f"{_MARK}1-{key.hex()}-{_checksum(key)}"


def read_generated_key(secret: bytes) -> bytes | None:
    """The 32 bytes of a generated key; None of any other secret: that is a passphrase.

    Raises:
        ConfigError: it begins like a generated key and is not whole, or a character of it is wrong.
    """
    text = secret.strip().lower()
    if not text.startswith(_MARK.encode()):
        return None
    found = re.fullmatch(_MARK.encode() + b"1-([0-9a-f]{64})-([0-9a-f]{8})", text)
    if not found:
        raise ConfigError(
            "what was given as passphrase begins like a generated key and is not a whole one",
            hint=f"it has one line: {_MARK}1-, 64 hex digits, - and 8 more; no passphrase may begin with {_MARK}",
        )
    key = bytes.fromhex(found[1].decode())
    if _checksum(key) != found[2].decode():
        raise ConfigError(
            "the generated key fails its checksum: a character of it is wrong", hint="compare it with another copy"
        )
    return key


def make_slot(
    keyring: Keyring, secret: bytes, *, slot: str, repository_id: str, label: str, created_at: str, entropy: Entropy
) -> dict[str, Any]:
    """A slot that opens with `secret`, a passphrase or the text of a generated key; JSON form.

    Raises:
        ConfigError: the secret is empty, or a generated key that is not whole.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    kind, material = _recognise(secret)
    salt, nonce = entropy(16), entropy(12)
    kdf: dict[str, Any] = {"name": _DERIVATION[kind], "salt": b64encode(salt).decode()}
    if kind == "passphrase":
        kdf |= SCRYPT
    sealed = AESGCM(slot_key(kdf, material)).encrypt(nonce, keyring.to_bundle(), _context(repository_id, slot))
    return {
        "slot": slot,
        "kind": kind,
        "role": "full",
        "label": label,
        "created_at": created_at,
        "kdf": kdf,
        "sealed": b64encode(nonce + sealed).decode(),
    }


def open_slots(
    slots: list[dict[str, Any]], secret: bytes, repository_id: str, stretch: Stretch | None = None
) -> Keyring:
    """The keyring behind the first slot that `secret` opens; only slots of its kind are tried.

    `stretch` does what `slot_key` does, if anybody has done it before.

    Raises:
        WrongPassphrase: it opens none.
        ConfigError: the secret is empty, or a generated key that is not whole.
    """
    kind, material = _recognise(secret)
    fitting = _fitting(slots, kind)
    for slot in fitting:
        keyring = _open(slot, (stretch or slot_key)(slot["kdf"], material), repository_id)
        if keyring:
            return keyring
    raise _wrong(kind, len(fitting), {slot["kind"] for slot in slots})


def slot_keys(slots: list[dict[str, Any]], secret: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
    """How the key of each slot of a secret's kind is derived, and that key. Raises ConfigError, DamagedObject."""
    kind, material = _recognise(secret)
    for slot in _fitting(slots, kind):
        yield slot["kdf"], slot_key(slot["kdf"], material)


def _fitting(slots: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [slot for slot in slots if (slot["kind"], slot["kdf"]["name"]) == (kind, _DERIVATION[kind])]


def _open(slot: dict[str, Any], key: bytes, repository_id: str) -> Keyring | None:
    sealed = b64decode(slot["sealed"])
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from moraine.repository.keys import Keyring

    try:
        bundle = AESGCM(key).decrypt(sealed[:12], sealed[12:], _context(repository_id, slot["slot"]))
    except InvalidTag:
        return None
    return Keyring.from_bundle(bundle)


def _wrong(kind: str, tried: int, kinds: set[str]) -> WrongPassphrase:
    if not tried and kind in kinds:
        return WrongPassphrase(
            f"the slots for a {_NAMES[kind]} are of a newer version", hint="upgrade Moraine, or use another way in"
        )
    if not tried:
        others = " and ".join(f"{_NAMES.get(other, other)}s" for other in sorted(kinds))
        return WrongPassphrase(
            f"the repository has no slot for a {_NAMES[kind]}, only for {others}",
            hint="open it with one of those; `moraine key add` then lets this one in too",
        )
    return WrongPassphrase(
        f"the {_NAMES[kind]} opens no key slot of its kind ({tried} tried)",
        hint="check the passphrase file: a trailing newline is ignored, everything else counts"
        if kind == "passphrase"
        else "it is whole, but of another repository, or its slot was removed",
    )


def _recognise(secret: bytes) -> tuple[str, bytes]:
    """The kind of slot a secret opens, and what its slot key is derived from."""
    key = read_generated_key(secret)
    if not secret:
        raise ConfigError(
            "the passphrase is empty", hint="an encrypted repository needs one; --plain makes a plain one"
        )
    return ("key", key) if key else ("passphrase", secret)


def slot_key(kdf: dict[str, Any], material: bytes) -> bytes:
    """The key of a slot: a passphrase stretched, or a generated key bound to the slot. Raises DamagedObject."""
    salt = b64decode(kdf["salt"])
    if kdf["name"] == "blake3":
        return blake3(material + salt, derive_key_context="moraine v1 generated key slot").digest()
    n, r, p = kdf["n"], kdf["r"], kdf["p"]
    if n * r > 1 << 24 or p > 16:
        raise DamagedObject(f"a key slot asks for scrypt n={n} r={r} p={p}, more than any version wrote")
    return hashlib.scrypt(material, salt=salt, n=n, r=r, p=p, maxmem=256 * n * r, dklen=32)


def _checksum(key: bytes) -> str:
    return blake3(key, derive_key_context="moraine v1 generated key checksum").digest()[:4].hex()


def _context(repository_id: str, slot: str) -> bytes:
    return f"moraine v1 slot {repository_id} {slot}".encode()
