"""Checks snapshots, manifests and index: every object authentic, every chunk that a manifest names known to the index.

Snapshots share manifest objects; each is read once. Rows that a later delta hides may name chunks that are gone, so
what seems lost here is a suspicion until `lost_paths` has looked at the rows as a restore would see them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa

from moraine.engine.rows import row_keys
from moraine.model import compute as pc
from moraine.model.entry import display_path
from moraine.model.log import SegmentRef
from moraine.model.snapshot import DeltaRef, ShardRef, Snapshot
from moraine.repository import layout
from moraine.repository.index import Index
from moraine.repository.manifest import Manifest
from moraine.repository.repository import Repository
from moraine.steps.check_findings import PATHS, Findings

_CONTENT = ["digest", "chunks"]
_AHEAD = 16  # snapshots on their way from a store that is far away


def check_snapshots(repository: Repository, findings: Findings) -> list[Snapshot]:
    """The live snapshots that can be opened."""
    found: list[Snapshot] = []
    live = repository.state.live()
    for number, record in enumerate(live):
        findings.count("snapshots")
        for soon in live[number : number + _AHEAD]:
            repository.objects.ahead(soon.key)
        before = len(findings.problems)
        with findings.guard("snapshot", record.key):
            found.append(repository.snapshot(record.id))
        for problem in findings.problems[before:]:
            problem.snapshots.add(record.id)
            problem.files += record.files
    return found


def check_segments(repository: Repository, findings: Findings) -> list[SegmentRef]:
    """The index segments that can be read."""
    good: list[SegmentRef] = []
    for segment in repository.objects.walk(list(repository.state.segments.values())):
        findings.count("index_segments")
        with findings.guard("index", segment.key):
            table = repository.index.load(segment, ["id"])
            findings.count("indexed_chunks", table.num_rows)
            good.append(segment)
    return good


def check_manifests(
    repository: Repository, snapshots: list[Snapshot], index: Index, findings: Findings
) -> list[Snapshot]:
    """The snapshots without those parts of their manifests that cannot be read: what is left of them."""
    broken: set[str] = set()
    unknown: list[pa.Array] = []
    owned = list(_objects(snapshots))
    coming = repository.objects.walk([ref for ref, _ in owned])
    for ref, owners in owned:
        next(coming)
        findings.count("manifest_objects")
        before = len(findings.problems)
        with findings.guard("manifest", ref.key):
            table = repository.manifest(owners[0]).load(ref, _CONTENT)
            findings.count("manifest_rows", table.num_rows)
            unknown.append(_unknown(repository, table, index))
        for problem in findings.problems[before:]:
            broken.add(ref.key)
            problem.snapshots.update(owner.id for owner in owners)
            problem.files += ref.rows * len(owners)
            if isinstance(ref, ShardRef):
                start = ref.first.replace(b"\0\0", b"/").replace(b"\0", b"/")
                problem.paths[f"{ref.rows} entries from {display_path(start) or 'the root'} on"] = None
    ids = (
        pc.unique(pa.chunked_array(unknown, pa.binary(32)).combine_chunks()) if unknown else pa.array([], pa.binary(32))
    )
    if len(ids):
        message = f"{len(ids)} chunks that manifests name are in no readable index segment"
        findings.lose(findings.add("chunk-unknown", layout.INDEX, message), ids)
    return [_without(snapshot, broken) for snapshot in snapshots]


def lost_paths(repository: Repository, snapshots: Iterable[Snapshot], findings: Findings) -> None:
    """Say which files of which snapshots the lost chunks cost; drop suspicions about rows that nobody sees."""
    if not findings.lost:
        return
    lost = pa.concat_arrays([ids for _, ids in findings.lost])
    owner = np.concatenate([np.full(len(ids), number) for number, ids in findings.lost])
    snapshots = list(snapshots)
    touched = {
        ref.key
        for ref, owners in _objects(snapshots)
        if len(_hits(repository.manifest(owners[0]).load(ref, _CONTENT), lost)[0])
    }
    for snapshot in snapshots:
        if touched.isdisjoint(ref.key for ref in _parts(snapshot)):
            continue
        manifest = Manifest(repository.store, repository.keyring, snapshot)
        for table in manifest.tables(["dir", "name", *_CONTENT]):
            rows, which = _hits(table, lost)
            for number in np.unique(owner[which]).tolist():
                _blame(findings, number, snapshot.id, table.take(pa.array(np.unique(rows[owner[which] == number]))))
    findings.problems = [p for p in findings.problems if p.code != "chunk-unknown" or p.files]


def _blame(findings: Findings, number: int, snapshot: str, rows: pa.Table) -> None:
    problem = findings.problems[number]
    problem.snapshots.add(snapshot)
    problem.files += rows.num_rows
    room = PATHS - len(problem.paths)
    if room > 0:
        keys = row_keys(rows.slice(0, room)).to_pylist()
        for key in keys:
            problem.paths[display_path(key.lstrip(b"\0").replace(b"\0\0", b"/").replace(b"\0", b"/"))] = None


def _objects(snapshots: Iterable[Snapshot]) -> Iterator[tuple[ShardRef | DeltaRef, list[Snapshot]]]:
    """Every manifest object once, with the snapshots that use it."""
    owners: dict[str, tuple[ShardRef | DeltaRef, list[Snapshot]]] = {}
    for snapshot in snapshots:
        for ref in _parts(snapshot):
            owners.setdefault(ref.key, (ref, []))[1].append(snapshot)
    yield from owners.values()


def _parts(snapshot: Snapshot) -> list[ShardRef | DeltaRef]:
    parts: list[ShardRef | DeltaRef] = [ref for ref in snapshot.shards if ref.rows]
    return parts + list(snapshot.deltas)


def _without(snapshot: Snapshot, broken: set[str]) -> Snapshot:
    shards = tuple(replace(ref, key="", rows=0) if ref.key in broken else ref for ref in snapshot.shards)
    return replace(snapshot, shards=shards, deltas=tuple(ref for ref in snapshot.deltas if ref.key not in broken))


def _unknown(repository: Repository, table: pa.Table, index: Index) -> pa.Array:
    """The chunk ids of rows that the index does not have."""
    lists = table["chunks"].combine_chunks()
    digests = table["digest"].combine_chunks()
    single = pc.filter(digests, pc.and_(pc.is_null(lists), pc.is_valid(digests)))
    ids = pc.unique(pa.concat_arrays([single, pc.list_flatten(lists)]))
    nothing = pa.array([repository.keyring.chunk_id(b"")], pa.binary(32))
    ids = pc.filter(ids, pc.invert(pc.is_in(ids, value_set=nothing)))
    return pc.filter(ids, pa.array([not known for known in index.contains(ids.to_pylist())], pa.bool_()))


def _hits(table: pa.Table, lost: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(row, number of a lost chunk) for every reference of a table to a lost chunk."""
    lists = table["chunks"].combine_chunks()
    digests = table["digest"].combine_chunks()
    ids = pa.concat_arrays([digests, pc.list_flatten(lists)])
    rows = np.concatenate([np.arange(len(digests)), np.asarray(pc.list_parent_indices(lists))]).astype(np.int64)
    found = pc.index_in(ids, value_set=lost, skip_nulls=True)
    hit = np.asarray(found.is_valid())
    return rows[hit], np.asarray(found.drop_null())
