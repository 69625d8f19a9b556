"""Which files of a snapshot are restored as a sample: small and large ones, mostly what the session itself wrote.

Chosen in one pass over the manifest, window by window. The same seed, manifest and bounds give the same sample,
however the rows were cut into windows. It must not know how files are restored.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from blake3 import blake3

from moraine.engine.rows import sorted_rows
from moraine.model import compute as pc
from moraine.model.entry import Kind, State
from moraine.model.record import dataclass

COLUMNS = ("dir", "name", "kind", "size", "state", "extents", "digest", "chunks", "session")
_KEPT = ("dir", "name", "size", "state", "extents", "digest", "chunks")

Scores = npt.NDArray[np.float64]


class Stratum(IntEnum):
    """What is sampled separately; of five picks two are new and small, and one is of each other kind."""

    NEW_SMALL = 0
    NEW_LARGE = 1
    OLD_SMALL = 2
    OLD_LARGE = 3

    @property
    def label(self) -> str:
        """For people."""
        return self.name.lower().replace("_", ", ")


_TURNS = (Stratum.NEW_SMALL, Stratum.NEW_LARGE, Stratum.NEW_SMALL, Stratum.OLD_SMALL, Stratum.OLD_LARGE)


def seed_of(snapshot_id: str) -> int:
    """The seed of a snapshot's own sample."""
    return int.from_bytes(blake3(b"moraine sample v1" + snapshot_id.encode()).digest(8), "big")


@dataclass(frozen=True, slots=True)
class Population:
    """What a sample was drawn from: captured files with content."""

    files: int = 0
    bytes: int = 0
    too_large: int = 0  # files larger than the whole sample may be


class Sampler:
    """Draws a sample from the windows of one manifest."""

    def __init__(self, *, seed: int, files: int, bytes: int, session: str, small: int) -> None:
        """Set the bounds.

        Args:
            seed: decides the sample.
            files: most files of the sample.
            bytes: most bytes of the sample.
            session: the session whose rows are new.
            small: the largest size of a small file.
        """
        self._rng = np.random.default_rng(seed)
        self._files, self._bytes = files, bytes
        self._session, self._small = session, small
        self._best: dict[Stratum, pa.Table] = {}
        self.population = Population()

    def window(self, table: pa.Table) -> None:
        """Look at one more window; `table` has COLUMNS."""
        score = self._rng.random(table.num_rows)  # one number per row, so that windows do not matter
        size, state = table["size"].to_numpy(), table["state"].to_numpy()
        stored = np.isin(state, (State.OK, State.RACY)) & (table["kind"].to_numpy() == Kind.FILE) & (size > 0)
        stored &= table["digest"].is_valid().to_numpy()
        seen, fits = self.population, stored & (size <= self._bytes)
        self.population = Population(
            seen.files + int(stored.sum()),
            seen.bytes + int(size[stored].sum(dtype=np.int64)),
            seen.too_large + int(stored.sum() - fits.sum()),
        )
        new = pc.equal(table["session"].cast(pa.string()), self._session).fill_null(False).to_numpy()
        stratum = np.where(new, 0, 2) + (size > self._small)
        for kind in Stratum:
            self._keep_best(kind, table, score, np.flatnonzero(fits & (stratum == kind)))

    def chosen(self) -> pa.Table:
        """The sample in manifest order: COLUMNS without kind and session, and stratum."""
        picked = list(self._draw())
        return sorted_rows(pa.concat_tables(picked)) if picked else _NOTHING

    def _keep_best(self, kind: Stratum, table: pa.Table, score: Scores, rows: npt.NDArray[np.int64]) -> None:
        if len(rows) > self._files:
            rows = rows[np.argpartition(score[rows], self._files)[: self._files]]
        if not len(rows) or not self._files:
            return
        found = table.select(_KEPT).take(pa.array(rows))
        found = found.set_column(0, "dir", found["dir"].cast(pa.binary())).append_column("score", pa.array(score[rows]))
        known = [self._best[kind]] if kind in self._best else []
        merged = pa.concat_tables([*known, found]).sort_by("score")
        self._best[kind] = merged.slice(0, self._files)

    def _draw(self) -> Iterator[pa.Table]:
        """Row by row, in turns; at first nothing that would take more than half of the bytes that are left."""
        waiting = {kind: list(enumerate(table["size"].to_pylist())) for kind, table in self._best.items()}
        files, budget = self._files, self._bytes
        for share in (2, 1):
            tired = False
            while files and not tired:
                tired = True
                for kind in _TURNS:
                    pick = next((item for item in waiting.get(kind, []) if item[1] <= budget // share), None)
                    if pick is None or not files:
                        continue
                    waiting[kind].remove(pick)
                    files, budget, tired = files - 1, budget - pick[1], False
                    row = self._best[kind].select(_KEPT).slice(pick[0], 1)
                    yield row.append_column("stratum", pa.array([int(kind)]))


_NOTHING = pa.table(
    {
        "dir": pa.array([], pa.binary()),
        "name": pa.array([], pa.binary()),
        "size": pa.array([], pa.int64()),
        "state": pa.array([], pa.uint8()),
        "extents": pa.array([], pa.binary()),
        "digest": pa.array([], pa.binary(32)),
        "chunks": pa.array([], pa.list_(pa.binary(32))),
        "stratum": pa.array([], pa.int64()),
    }
)
