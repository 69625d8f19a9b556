"""verify of a mirror: read back files that a copy shard has just written; and the trash's purge."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from moraine.engine.lots import Lots
from moraine.errors import DamagedObject
from moraine.model.entry import Kind, State, display_path, join_path
from moraine.model.policy import Policy
from moraine.model.record import dataclass
from moraine.model.window import format_time
from moraine.proof.rehash import content_digest, stored_spans
from moraine.repository.repository import Repository
from moraine.repository.work import Ref
from moraine.sources.mirror import LookAt
from moraine.steps.mirror_copy import results_of
from moraine.steps.mirror_drift import sweep_seen
from moraine.steps.retain import Retained, retain
from moraine.steps.run import Clock, Run
from moraine.steps.verify import Verified

READ = ("dir", "name", "kind", "size", "state", "extents", "digest")


@dataclass(slots=True)
class _Evidence:
    shard: int
    depth: str
    at: str
    files: int = 0  # read back and hashed
    bytes: int = 0
    packs: tuple[str, ...] = ()


def verify_mirror(run: Run, outcome: Ref) -> Verified:
    """Read back as many of a shard's files as the policy says.

    Raises:
        DamagedObject: files are not what was written; names them. The copy shard has to run again.
    """
    assert run.mirror
    run.progress.start("verify")
    done = run.work.load_json(outcome)
    depth = run.policy.verify.depth
    evidence = _Evidence(done["shard"], depth, format_time(run.clock()))
    share = {"structure": 0.0, "sample": run.policy.verify.share, "full": 1.0}[depth]
    lots = Lots(run.session.id, done["shard"])
    wrong: list[str] = []
    with run.mirror.reader() as look:
        for table in results_of(run, [done]):
            for path, size, problem in compare_files(table, look, run.repository, share=share, lots=lots):
                evidence.files, evidence.bytes = evidence.files + 1, evidence.bytes + size
                run.progress.advance(bytes=size)
                wrong += [f"{path} {problem}"] if problem else []
    run.progress.finish("verify")
    if wrong:
        raise DamagedObject(
            f"{len(wrong):,} of the files just written are not as they were: {'; '.join(wrong[:5])}",
            hint=f"nothing was committed; clear map index {done['shard']} of `copy`: it will write them again",
            paths=wrong[:20],
        )
    kept = run.work.save_json(run.unique(f"verify/{evidence.shard:05d}"), asdict(evidence))
    return Verified(evidence.shard, depth, 0, evidence.files, evidence.bytes, kept)


def compare_files(
    table: pa.Table, look: LookAt, repository: Repository, *, share: float, lots: Lots
) -> Iterator[tuple[str, int, str]]:
    """Path, bytes read and what is wrong (nothing: empty) of a share of the files of a table that were captured."""
    assert repository.mirror
    if share <= 0:
        return
    state = table["state"].to_numpy()
    file = (table["kind"].to_numpy() == Kind.FILE) & ((state == State.OK) | (state == State.RACY))
    chosen = file & np.asarray(table["digest"].is_valid()) & (lots.draw(table.num_rows) < share)
    rows = table.select(READ).filter(pa.array(chosen)).to_pylist()
    with ThreadPoolExecutor(repository.mirror.width, thread_name_prefix="read-back") as pool:
        try:
            for row, problem in zip(rows, pool.map(lambda row: difference(row, look, repository), rows), strict=True):
                yield display_path(join_path(row["dir"], row["name"])), row["size"], problem
        finally:
            pool.shutdown(cancel_futures=True)


def difference(row: dict[str, Any], look: LookAt, repository: Repository) -> str:
    """How a file differs from its row; empty when it does not."""
    content = look(row["dir"], row["name"])
    if content is None:
        return "cannot be read"
    try:
        if content.size != row["size"]:
            return f"has {content.size:,} bytes instead of {row['size']:,}"
        spans = stored_spans(row["size"], row["extents"])
        cuts = [sum(length for _, length in spans)] if spans else []
        same = content_digest(content.read_at, spans, cuts, id_key=repository.keyring.id_key) == row["digest"]
        return "" if same else "has other content"
    finally:
        content.close()


@dataclass(frozen=True, slots=True)
class Purged:
    """What retain did to a mirror besides."""

    retained: Retained
    purged: list[str]  # trashes


def retain_any(repository: Repository, policy: Policy, *, clock: Clock, dry_run: bool = False) -> Purged:
    """Apply the policy's `keep` to its snapshots; of a mirror also `trash.keep` to the trash, and tidy up.

    Raises:
        RestoreError: a trash cannot be removed.
    """
    retained = retain(repository, policy, clock=clock, dry_run=dry_run)
    mirror = repository.mirror
    if dry_run or mirror is None or policy.destination is None:
        return Purged(retained, [])
    keep = policy.destination.trash.keep
    purged = mirror.purge(clock() - keep) if keep is not None else []
    mirror.sweep(list(repository.state.sessions))
    sweep_seen(repository, policy.policy)
    return Purged(retained, purged)
