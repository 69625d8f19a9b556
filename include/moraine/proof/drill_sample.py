"""Which files a sampled drill restores: drawn by weight in one pass over the manifest, window by window.

A file's weight is its value (by glob) times its age: how long its content has been stored, told by the session that
wrote it, so what nobody has read for longest is drawn most often. Each row gets the key u^(1/weight), u uniform, and
the largest keys are the sample (Efraimidis and Spirakis): the same seed gives the same sample however the rows were
cut into windows. Files with more bytes than are left are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from moraine.engine.globs import glob_regex
from moraine.model import compute as pc
from moraine.model.entry import Kind, State, join_path
from moraine.model.ids import ULID, ulid_time
from moraine.model.record import dataclass

Numbers = npt.NDArray[np.float64]

_KEPT = ("dir", "name", "size")


@dataclass(frozen=True, slots=True)
class Population:
    """What a sample was drawn from: captured files."""

    files: int = 0
    bytes: int = 0
    too_large: int = 0  # files larger than the whole sample may be


class WeightedSampler:
    """Draws a sample from the windows of one manifest."""

    def __init__(
        self, *, seed: int, files: int, bytes: int, value: Mapping[str, float], age: bool, now: datetime
    ) -> None:
        """Set the bounds and the weights.

        Args:
            seed: decides the sample.
            files: most files.
            bytes: most bytes.
            value: glob → weight; the highest of those that match counts, 1 where none does.
            age: whether how long content has been stored counts too.
            now: ages are counted to here.
        """
        self._rng = np.random.default_rng(seed)
        self._files, self._bytes, self._age, self._now = files, bytes, age, now
        self._value = [(rf"(?s)\A(?:{glob_regex(glob.encode())})(?:/.*)?\z", weight) for glob, weight in value.items()]
        self._best: pa.Table | None = None
        self.population = Population()

    def window(self, table: pa.Table) -> None:
        """Look at one more window, with the columns of `proof.sample`."""
        draw = self._rng.random(table.num_rows)  # one number per row, so that windows do not matter
        size, state = table["size"].to_numpy(), table["state"].to_numpy()
        stored = np.isin(state, (State.OK, State.RACY)) & (table["kind"].to_numpy() == Kind.FILE)
        stored &= table["digest"].is_valid().to_numpy()
        fits = stored & (size <= self._bytes)
        seen = self.population
        self.population = Population(
            seen.files + int(stored.sum()),
            seen.bytes + int(size[stored].sum(dtype=np.int64)),
            seen.too_large + int(stored.sum() - fits.sum()),
        )
        weight = self._weights(table)
        rows = np.flatnonzero(fits & (weight > 0))
        score = np.log(np.maximum(draw[rows], 1e-300)) / weight[rows]  # the order of u^(1/weight)
        most = 4 * self._files  # some will not fit into the bytes that are left
        if len(rows) > most:
            first = np.argpartition(-score, most)[:most]
            rows, score = rows[first], score[first]
        found = table.select(_KEPT).take(pa.array(rows))
        found = found.set_column(0, "dir", found["dir"].cast(pa.binary())).append_column("score", pa.array(score))
        merged = pa.concat_tables([self._best, found] if self._best is not None else [found])
        self._best = merged.sort_by([("score", "descending")]).slice(0, most)

    def chosen(self) -> Iterator[tuple[bytes, int]]:
        """Path and size of each file of the sample, in the order they were drawn."""
        files, left = self._files, self._bytes
        for row in self._best.to_pylist() if self._best is not None else ():
            if files and row["size"] <= left:
                files, left = files - 1, left - row["size"]
                yield join_path(row["dir"], row["name"]), row["size"]

    def _weights(self, table: pa.Table) -> Numbers:
        weight = np.ones(table.num_rows)
        if self._age:
            sessions = table["session"].combine_chunks()
            sessions = sessions if pa.types.is_dictionary(sessions.type) else sessions.dictionary_encode()
            ages = np.array([self._days(name) for name in sessions.dictionary.to_pylist()] or [0.0])
            weight *= 1 + ages[np.asarray(sessions.indices.fill_null(0))]
        if self._value:
            weight *= self._values(table)
        return weight

    def _values(self, table: pa.Table) -> Numbers:
        directory, name = table["dir"].cast(pa.binary()), table["name"]
        below = pc.binary_join_element_wise(directory, name, pa.scalar(b"/", pa.binary()))
        path = pc.if_else(pc.equal(pc.binary_length(directory), 0), name, below)
        highest = np.full(table.num_rows, -1.0)
        for regex, weight in self._value:
            matches = pc.match_substring_regex(path, regex).to_numpy()
            highest = np.where(matches, np.maximum(highest, weight), highest)
        return np.where(highest < 0, 1.0, highest)

    def _days(self, session: str) -> float:
        if not ULID.match(session or ""):
            return 0.0
        return max((self._now - ulid_time(session)).total_seconds() / 86400, 0.0)


class Subtrees:
    """The first-level entries of a manifest with their files and bytes: how a whole snapshot is cut into parts."""

    def __init__(self) -> None:
        self._weights: dict[bytes, list[int]] = {}  # name → files, bytes
        self.population = Population()

    def window(self, table: pa.Table) -> None:
        """Add one more window."""
        file = (table["kind"].to_numpy() == Kind.FILE) & table["digest"].is_valid().to_numpy()
        rows = table.filter(pa.array(file))
        directory = rows["dir"].cast(pa.binary())
        first = pc.replace_substring_regex(directory, r"(?s)/.*", "")
        top = pc.if_else(pc.equal(pc.binary_length(directory), 0), rows["name"], first)
        for row in pa.table({"top": top, "size": rows["size"]}).group_by("top").aggregate(
            [("size", "sum"), ("size", "count")]
        ).to_pylist():  # fmt: skip
            weight = self._weights.setdefault(row["top"], [0, 0])
            weight[0] += row["size_count"]
            weight[1] += row["size_sum"]
        seen = self.population
        size = int(np.sum(rows["size"].to_numpy(), dtype=np.int64))
        self.population = Population(seen.files + rows.num_rows, seen.bytes + size)

    def parts(self, most: int) -> list[tuple[list[bytes], int, int]]:
        """At most `most` groups of first-level names, about equally heavy: (names, files, bytes)."""
        cost = {name: size + 4096 * files for name, (files, size) in self._weights.items()}
        groups: list[tuple[list[bytes], int, int]] = [([], 0, 0) for _ in range(min(most, len(cost)))]
        for name in sorted(cost, key=lambda name: (-cost[name], name)):
            at = min(range(len(groups)), key=lambda n: groups[n][2] + 4096 * groups[n][1])
            names, files, size = groups[at]
            groups[at] = ([*names, name], files + self._weights[name][0], size + self._weights[name][1])
        return groups
