"""verify: read back what a copy shard has just written, before anything refers to it.

`structure` reads every pack's size, header, footer and trailer; `sample` also opens a share of the frames and hashes
their chunks; `full` does so with all. A pack that fails is refused: the next attempt at the copy shard writes its
content again.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from moraine.engine.lots import Lots
from moraine.errors import DamagedObject, IntegrityError, KeyUnavailable, MoraineError
from moraine.model import compute as pc
from moraine.model.record import dataclass
from moraine.model.window import format_time
from moraine.repository.packs import read_trailer
from moraine.repository.work import Ref
from moraine.steps.copy_journal import note_refused
from moraine.steps.run import Run
from moraine.stores.ahead import at_once, begin

if TYPE_CHECKING:
    from moraine.repository.chunks import Lost

_REQUESTS = 4  # trailers read at once: this waits for the store, not for the processor


@dataclass(frozen=True, slots=True)
class Verified:
    """What was read back of one copy shard."""

    shard: int
    depth: str
    packs: int
    chunks: int  # hashed
    bytes: int  # hashed
    evidence: Ref


@dataclass(slots=True)
class _Evidence:
    shard: int
    depth: str
    at: str
    packs: list[str] = field(default_factory=list)
    unopened: int = 0  # packs whose trailer this host's key may not read
    frames: int = 0  # opened
    chunks: int = 0
    bytes: int = 0


def verify_shard(run: Run, outcome: Ref) -> Verified:
    """Read back the packs of one copy shard as deep as the policy says.

    Raises:
        DamagedObject: packs are not what was written; names them. The copy shard has to run again.
        KeyUnavailable: the policy asks to open frames, and this host's key may only write.
        SessionGone: the outcome has been swept.
    """
    run.progress.start("verify")
    done = run.work.load_json(outcome)
    check = _Check(run, done)
    for ref in done["locations"]:
        check.read_back(run.work.load_table(ref))
    evidence = check.result()
    name = run.unique(f"verify/{evidence.shard:05d}")
    run.progress.finish("verify")
    return Verified(
        evidence.shard,
        evidence.depth,
        len(evidence.packs),
        evidence.chunks,
        evidence.bytes,
        run.work.save_json(name, asdict(evidence)),
    )


class _Check:
    """Reads back the packs of one outcome and gathers the evidence, or what is wrong."""

    def __init__(self, run: Run, outcome: dict[str, Any]) -> None:
        self._run = run
        self._evidence = _Evidence(outcome["shard"], run.policy.verify.depth, format_time(run.clock()))
        self._sizes: dict[str, int] = {pack["key"]: pack["size"] for pack in outcome["packs"]}
        # Seeded by the session, so that a retry looks at the same frames.
        self._lots = Lots(run.session.id, outcome["shard"])
        self._problems: dict[str, MoraineError] = {}

    def read_back(self, locations: pa.Table) -> None:
        """Check the packs of one table of places."""
        table = locations.unify_dictionaries().combine_chunks()
        finish = begin(self._run.repository.store, lambda: self._structure(table))
        depth = self._evidence.depth
        if depth != "structure":
            chosen = _choose(table, 1.0 if depth == "full" else self._run.policy.verify.share, self._lots)
            self._hash(pc.take(table, pc.from_numpy(chosen)))
        finish()

    def result(self) -> _Evidence:
        """The evidence. Raises DamagedObject when anything was wrong."""
        left = self._sizes.keys() - set(self._evidence.packs) - self._problems.keys()
        for key in left:
            self._problems[key] = DamagedObject(f"pack {key} holds nothing that its copy shard knows of", object=key)
        if self._problems:
            raise _refuse(self._run, self._evidence.shard, self._problems)
        return self._evidence

    def _structure(self, table: pa.Table) -> None:
        packs = _by_pack(table)
        requests = max(_REQUESTS, at_once(self._run.repository.store))
        with ThreadPoolExecutor(requests, thread_name_prefix="verify") as pool:
            checks = {
                key: pool.submit(_check_structure, self._run, key, self._sizes.get(key, 0), rows)
                for key, rows in packs.items()
            }
        for key, check in checks.items():
            error = check.exception()
            if isinstance(error, IntegrityError):
                self._problems[key] = error
                continue
            self._evidence.unopened += not check.result()
            self._evidence.packs.append(key)

    def _hash(self, locations: pa.Table) -> None:
        def note(lost: Lost) -> None:
            if isinstance(lost.error, KeyUnavailable):
                raise _write_only(lost.error)
            self._problems.setdefault(locations["pack"][int(lost.rows[0])].as_py(), lost.error)

        evidence = self._evidence
        for opened in self._run.repository.chunks.read(locations, lost=note):
            count = int(opened.size.sum())
            evidence.frames += 1
            evidence.chunks += len(opened.rows)
            evidence.bytes += count
            opened.release()
            self._run.progress.advance(bytes=count)


def _by_pack(table: pa.Table) -> dict[str, pa.Table]:
    return {key.as_py(): pc.filter(table, pc.equal(table["pack"], key)) for key in pc.unique(table["pack"])}


def _check_structure(run: Run, key: str, size: int, written: pa.Table) -> bool:
    """Compare a pack's size and trailer with what was written; False where this key may not open the trailer."""
    repository = run.repository
    try:
        found = read_trailer(repository.store, repository.keyring, key, size)
    except KeyUnavailable:
        return False
    for name in written.schema.names:
        if not pc.plain(found[name]).equals(pc.plain(written[name])):
            raise DamagedObject(f"the trailer of pack {key} differs in {name} from what was written", object=key)
    return True


def _choose(table: pa.Table, share: float, lots: Lots) -> npt.NDArray[np.int64]:
    """The rows of the frames to open: `share` of all frames, and at least one of every pack."""
    if not table.num_rows:
        return np.empty(0, np.int64)
    pack = table["pack"].chunk(0).indices.to_numpy().astype(np.int64)
    place = pack << 32 | table["offset"].to_numpy()
    frames, frame_of_row = np.unique(place, return_inverse=True)
    lot = lots.draw(len(frames))
    starts = np.flatnonzero(np.append(True, np.diff(frames >> 32) != 0))
    lowest = np.minimum.reduceat(lot, starts)
    best = np.repeat(lowest, np.diff(np.append(starts, len(frames))))
    chosen = (lot < share) | (lot == best)
    return np.flatnonzero(chosen[frame_of_row])


def _write_only(cause: KeyUnavailable) -> KeyUnavailable:
    error = KeyUnavailable(
        str(cause),
        hint="this host may only write: set `verify.depth: structure` in its policies, or give it a full key",
    )
    error.__cause__ = cause
    return error


def _refuse(run: Run, shard: int, problems: dict[str, MoraineError]) -> DamagedObject:
    packs = sorted(problems)
    note_refused(run, shard, packs)
    error = DamagedObject(
        f"{len(packs)} of the packs just written cannot be read back as they were: {problems[packs[0]]}",
        hint=f"nothing was committed; clear map index {shard} of `copy`: it will write their content again. "
        "If this happens twice, do not trust the store",
        packs=packs[:20],
    )
    error.__cause__ = problems[packs[0]]
    return error
