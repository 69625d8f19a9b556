"""A set of chunk ids that costs 32 bytes each, however many there are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.bytes_]  # dtype S32: fixed width, so trailing zero bytes count

_RECENT = 1 << 16


class KnownIds:
    """Ids are added one by one into a Python set, which is frozen into sorted arrays whenever it has grown."""

    def __init__(self) -> None:
        self._recent: set[bytes] = set()
        self._frozen: list[Ids] = []

    def __len__(self) -> int:
        return len(self._recent) + sum(len(run) for run in self._frozen)

    def add(self, chunk_id: bytes) -> None:
        """Add one id that is not there yet."""
        self._recent.add(chunk_id)
        if len(self._recent) >= _RECENT:
            recent, self._recent = self._recent, set()
            self.add_all(np.frombuffer(b"".join(recent), dtype="S32"))

    def add_all(self, ids: Ids) -> None:
        """Add many at once."""
        run = np.sort(ids)
        while self._frozen and len(self._frozen[-1]) <= 2 * len(run):
            run = np.sort(np.concatenate([self._frozen.pop(), run]), kind="stable")
        if len(run):
            self._frozen.append(run)

    def contains(self, ids: Sequence[bytes]) -> list[bool]:
        """For each id whether it is in the set."""
        found = [chunk_id in self._recent for chunk_id in ids]
        if not self._frozen or not ids:
            return found
        wanted = np.frombuffer(b"".join(ids), dtype="S32")
        held = np.array(found)
        for run in self._frozen:
            at = np.searchsorted(run, wanted)
            held |= run[np.minimum(at, len(run) - 1)] == wanted
        return [bool(hit) for hit in held]
