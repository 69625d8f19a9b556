"""The index for a run that follows a failed proof or drill: a chunk counts as held only once it has been read back.

So what lies damaged or is gone is stored anew by the next backup that reads it, and the new place counts
(`repository/index.py`). Costs a read of every chunk the run would otherwise not store.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from moraine.repository.chunks import Lost
from moraine.repository.repository import Repository


class SoundIndex:
    """Membership as dedup asks for it, without taking the index on trust.

    A host whose key writes only cannot read back, so for it no chunk is held.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def contains(self, ids: Sequence[bytes]) -> list[bool]:
        """For each id whether a committed chunk has it and can be read."""
        keyring = self._repository.keyring
        if keyring.encrypted and not keyring.private_keys:
            return [False] * len(ids)
        index = self._repository.index
        noted = {chunk for chunk, known in zip(ids, index.contains(ids), strict=True) if known}
        if not noted:
            return [False] * len(ids)
        places = index.locate(pa.array(sorted(noted), pa.binary(32)))
        names = places["id"].to_pylist()

        def lost(found: Lost) -> None:
            noted.difference_update(names[row] for row in found.rows.tolist())

        for opened in self._repository.chunks.read(places, lost=lost):
            opened.release()
        return [chunk in noted for chunk in ids]
