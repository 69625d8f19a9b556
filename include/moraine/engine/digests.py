"""The digest of a file: what a restore, a sample or a check compares (docs/FORMAT.md, section 6)."""

from __future__ import annotations

from collections.abc import Sequence

from blake3 import blake3

_CONTEXT = b"moraine digest v1"


def file_digest(chunk_ids: Sequence[bytes], id_key: bytes) -> bytes:
    """The digest of a file with these chunks, in order: 32 bytes."""
    if len(chunk_ids) == 1:
        return chunk_ids[0]
    return blake3(_CONTEXT + b"".join(chunk_ids) if chunk_ids else b"", key=id_key).digest()
