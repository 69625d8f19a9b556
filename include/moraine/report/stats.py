"""How much there is: logical size, unique content, what it takes, and the ratios between them.

Counts come from the log; unique content from the index; what it takes from the store's own listing, so that packs no
snapshot needs any more are in it too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from moraine.model import compute as pc
from moraine.model.record import dataclass
from moraine.model.snapshot import SnapshotRecord
from moraine.model.window import format_time
from moraine.report.snapshots import sort_snapshots
from moraine.repository import layout
from moraine.repository.repository import Repository


@dataclass(frozen=True, slots=True)
class PolicyStats:
    """One policy's live snapshots; sizes in bytes, `newest_*` of its newest snapshot."""

    policy: str
    snapshots: int
    first_window_end: str
    last_window_end: str
    newest_files: int
    newest_bytes: int
    logical_bytes: int
    proven: str | None


@dataclass(frozen=True, slots=True)
class Stats:
    """A repository in figures; sizes in bytes.

    logical_bytes: all files of all live snapshots. unique_bytes: the content of all chunks, each counted once.
    pack_bytes: what packs take, compressed and sealed. other_bytes: manifests, index, log and everything else.
    """

    repository: str
    id: str
    encrypted: bool
    snapshots: int
    files: int
    logical_bytes: int
    chunks: int
    unique_bytes: int
    packs: int
    pack_bytes: int
    other_objects: int
    other_bytes: int
    dedup_ratio: float | None
    compression_ratio: float | None
    total_ratio: float | None
    policies: list[PolicyStats]

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def repository_stats(repository: Repository) -> Stats:
    """Measure a repository; reads the index's sizes and one listing of the store."""
    records = sort_snapshots(repository.state.live())
    chunks, unique = _unique(repository)
    packs, pack_bytes, others, other_bytes = _stored(repository)
    logical = sum(record.bytes for record in records)
    return Stats(
        repository=repository.store.url,
        id=repository.config.id,
        encrypted=repository.config.encrypted,
        snapshots=len(records),
        files=sum(record.files for record in records),
        logical_bytes=logical,
        chunks=chunks,
        unique_bytes=unique,
        packs=packs,
        pack_bytes=pack_bytes,
        other_objects=others,
        other_bytes=other_bytes,
        dedup_ratio=_ratio(logical, unique),
        compression_ratio=_ratio(unique, pack_bytes),
        total_ratio=_ratio(logical, pack_bytes + other_bytes),
        policies=[_policy_stats(name, records) for name in sorted({record.policy for record in records})],
    )


def _unique(repository: Repository) -> tuple[int, int]:
    chunks = total = 0
    for segment in repository.index.segments:
        sizes = repository.index.load(segment, ["size"])["size"]
        chunks += len(sizes)
        total += pc.sum(sizes).as_py() or 0
    return chunks, total


def _stored(repository: Repository) -> tuple[int, int, int, int]:
    packs = pack_bytes = others = other_bytes = 0
    for info in repository.store.list(""):
        if info.key.startswith(layout.PACKS):
            packs, pack_bytes = packs + 1, pack_bytes + info.size
        else:
            others, other_bytes = others + 1, other_bytes + info.size
    return packs, pack_bytes, others, other_bytes


def _policy_stats(name: str, records: Iterable[SnapshotRecord]) -> PolicyStats:
    mine = [record for record in records if record.policy == name]
    newest = mine[-1]
    proven = [record.proven for record in mine if record.proven]
    return PolicyStats(
        policy=name,
        snapshots=len(mine),
        first_window_end=format_time(mine[0].window.end),
        last_window_end=format_time(newest.window.end),
        newest_files=newest.files,
        newest_bytes=newest.bytes,
        logical_bytes=sum(record.bytes for record in mine),
        proven=format_time(max(proven)) if proven else None,
    )


def _ratio(numerator: int, denominator: int) -> float | None:
    return round(numerator / denominator, 3) if numerator and denominator else None
