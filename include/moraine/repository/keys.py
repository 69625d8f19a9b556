"""The key tree: slots → key bundle → keys for ids, metadata and packs.

A slot (`key_slots.py`) wraps the bundle for one passphrase or generated key. The bundle holds the id key, the metadata
key and an X25519 key pair for content. Every pack has a random key of its own, wrapped for that pair's public half, so
a host whose slot lacks the private half can write and compare, but not read old content. Rotation adds a new pair to
the bundle; a subject's or tenant's pair is one more recipient id. Neither changes a pack.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import field

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from moraine.errors import DamagedObject, KeyUnavailable
from moraine.model.record import dataclass

Entropy = Callable[[int], bytes]

WRAPPED_SIZE = 96  # recipient id 16, ephemeral public key 32, sealed key 32 + tag 16


@dataclass(frozen=True, slots=True)
class PackKey:
    """The key of one pack, and how readers get it back; both empty in a plain repository."""

    key: bytes
    wrapped: bytes


@dataclass(frozen=True)
class Keyring:
    """The keys of an opened repository. Never stored, printed or sent anywhere."""

    encrypted: bool
    id_key: bytes
    metadata_key: bytes
    recipient_id: bytes = b""
    recipient: bytes = b""
    private_keys: dict[bytes, bytes] = field(default_factory=dict, repr=False)  # recipient id → X25519 private key

    @classmethod
    def create(cls, entropy: Entropy) -> Keyring:
        """Fresh keys for a new encrypted repository."""
        private = entropy(32)
        recipient_id = entropy(16)
        public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
        return cls(True, entropy(32), entropy(32), recipient_id, public, {recipient_id: private})

    @classmethod
    def plain(cls, repository_id: str) -> Keyring:
        """The keys of a plain repository: derived from its public id, so they protect from accidents only."""
        derive = blake3(repository_id.encode(), derive_key_context="moraine v1 plain repository")
        keys = derive.digest(length=64)
        return cls(False, keys[:32], keys[32:])

    @property
    def chunk_seed(self) -> int:
        """The secret that moves content-defined chunk boundaries: 64 bits."""
        return int.from_bytes(_derive(self.id_key, "moraine v1 chunk boundaries")[:8], "little")

    def chunk_id(self, content: bytes | bytearray | memoryview) -> bytes:
        """The id of a chunk: keyed BLAKE3 of its content, 32 bytes."""
        return blake3(content, key=self.id_key).digest()

    def parquet_key(self, object_key: str) -> bytes:
        """The key of one Parquet object (32 bytes); no two objects share one."""
        return blake3(object_key.encode(), key=_derive(self.metadata_key, "moraine v1 parquet")).digest()

    def document_key(self, object_key: str) -> bytes:
        """The key of one sealed JSON object (32 bytes)."""
        return blake3(object_key.encode(), key=_derive(self.metadata_key, "moraine v1 document")).digest()

    def mac(self, object_key: str, content: bytes) -> str:
        """The authentication code of an open JSON object, bound to its key; hex."""
        message = len(object_key).to_bytes(4, "little") + object_key.encode() + content
        return blake3(message, key=_derive(self.metadata_key, "moraine v1 mac")).hexdigest()

    def new_pack_key(self, entropy: Entropy) -> PackKey:
        """A random pack key, wrapped for the repository's recipient."""
        if not self.encrypted:
            return PackKey(b"", b"")
        key, ephemeral = entropy(32), X25519PrivateKey.from_private_bytes(entropy(32))
        ephemeral_public = ephemeral.public_key().public_bytes_raw()
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(self.recipient))
        # The wrapping key is used once, so a fixed nonce repeats under no key.
        sealed = AESGCM(_wrap_key(shared, ephemeral_public, self.recipient)).encrypt(bytes(12), key, self.recipient_id)
        return PackKey(key, self.recipient_id + ephemeral_public + sealed)

    def open_pack_key(self, wrapped: bytes) -> bytes:
        """The pack key of a wrapped one. Raises KeyUnavailable, DamagedObject."""
        if not self.encrypted:
            return b""
        if len(wrapped) != WRAPPED_SIZE:
            raise DamagedObject(f"a wrapped pack key has {len(wrapped)} bytes, not {WRAPPED_SIZE}")
        recipient_id, ephemeral_public, sealed = wrapped[:16], wrapped[16:48], wrapped[48:]
        private = self.private_keys.get(recipient_id)
        if private is None:
            raise KeyUnavailable(
                f"this key cannot read content sealed for recipient {recipient_id.hex()}",
                hint="open the repository with a key slot that may read, not only write",
            )
        secret = X25519PrivateKey.from_private_bytes(private)
        shared = secret.exchange(X25519PublicKey.from_public_bytes(ephemeral_public))
        public = secret.public_key().public_bytes_raw()
        try:
            return AESGCM(_wrap_key(shared, ephemeral_public, public)).decrypt(bytes(12), sealed, recipient_id)
        except InvalidTag as error:
            raise DamagedObject(
                "a wrapped pack key fails its authentication tag", hint="run `moraine check`"
            ) from error

    def to_bundle(self) -> bytes:
        """The bundle a slot wraps."""
        pairs = {rid.hex(): key.hex() for rid, key in self.private_keys.items()}
        return json.dumps(
            {
                "id_key": self.id_key.hex(),
                "metadata_key": self.metadata_key.hex(),
                "recipient_id": self.recipient_id.hex(),
                "recipient": self.recipient.hex(),
                "private_keys": pairs,
            },
            sort_keys=True,
        ).encode()

    @classmethod
    def from_bundle(cls, bundle: bytes) -> Keyring:
        """The keyring of an unwrapped bundle."""
        data = json.loads(bundle)
        pairs = {bytes.fromhex(rid): bytes.fromhex(key) for rid, key in data["private_keys"].items()}
        single = {name: bytes.fromhex(data[name]) for name in ("id_key", "metadata_key", "recipient_id", "recipient")}
        return cls(encrypted=True, private_keys=pairs, **single)


def _derive(key: bytes, purpose: str) -> bytes:
    return blake3(key, derive_key_context=purpose).digest()


def _wrap_key(shared: bytes, ephemeral: bytes, recipient: bytes) -> bytes:
    return blake3(shared + ephemeral + recipient, derive_key_context="moraine v1 pack key").digest()
