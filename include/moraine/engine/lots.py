"""Lots: which of many rows a sample takes, decided by a seed, the same on every machine and in every retry."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from blake3 import blake3

_BITS = 53  # of a float's mantissa


class Lots:
    """A stream of numbers: BLAKE3's output for a seed, which is as good as random and needs no further library."""

    def __init__(self, *seed: object) -> None:
        """Begin the stream that a seed decides."""
        self._stream = blake3("\0".join(map(str, seed)).encode())
        self._drawn = 0  # bytes

    def draw(self, count: int) -> npt.NDArray[np.float64]:
        """The next `count` numbers, each from 0 up to but without 1."""
        raw = np.frombuffer(self._stream.digest(length=8 * count, seek=self._drawn), "<u8")
        self._drawn += 8 * count
        numbers = (raw >> np.uint64(64 - _BITS)).astype(np.float64)
        numbers *= 2.0**-_BITS
        return numbers
