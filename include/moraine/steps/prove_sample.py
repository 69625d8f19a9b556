"""The sample's part of a proof: files restored by the restore step, and compared with the manifest by hash.

Only with the manifest: the source may have changed since. The copies stand in a closed directory and are gone when
this is over, whatever happens.
"""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Any

import pyarrow as pa

from moraine.errors import IntegrityError
from moraine.model.entry import State, display_path, join_path
from moraine.model.progress import Progress
from moraine.model.record import dataclass
from moraine.model.snapshot import Snapshot
from moraine.proof.problem import Problem
from moraine.proof.rehash import content_digest, stored_spans
from moraine.proof.sample import Stratum
from moraine.repository.repository import Repository
from moraine.sources.posix_target import PosixTarget
from moraine.sources.target import INCOMPLETE, TargetReader
from moraine.steps.restore import execute_restore
from moraine.steps.restore_plan import plan_restore
from moraine.steps.scratch import closed_directory

EQUAL = "equal"
_NAMED = 20
_Path = bytes  # by another name, as a class below has a field called bytes


@dataclass(slots=True)
class SampleProof:
    """What came back."""

    files: list[dict[str, Any]] = field(default_factory=list)  # path, size, digest, stratum, racy, result
    bytes: int = 0
    again: list[_Path] = field(default_factory=list)  # paths that did not come back as they were
    problems: list[Problem] = field(default_factory=list)
    skipped: str | None = None  # why no sample was taken

    @property
    def racy(self) -> int:
        """Files that changed while they were read, long ago: what was read then is what came back."""
        return sum(entry["racy"] for entry in self.files)


def prove_sample(
    repository: Repository, snapshot: Snapshot, chosen: pa.Table, scratch: Path, progress: Progress
) -> SampleProof:
    """Restore the `chosen` files (see `proof.sample`) and compare them.

    Args:
        repository: where they are.
        snapshot: what they belong to.
        chosen: their rows.
        scratch: a directory that does not exist yet; it is made, and removed again.
        progress: told of the restore.

    Raises:
        RestoreError: the scratch cannot be used; says nothing about the snapshot.
    """
    proof = SampleProof()
    if not chosen.num_rows:
        return proof
    if repository.keyring.encrypted and not repository.keyring.private_keys:
        proof.skipped = "this host's key writes, but does not read content"
        return proof
    with closed_directory(scratch):
        try:
            _restore(repository, snapshot, chosen.to_pylist(), PosixTarget(scratch / "tree"), proof, progress)
        except IntegrityError as error:
            proof.problems.append(Problem.of_error("the sample cannot be restored", error))
    proof.problems += _problems(proof.files)
    return proof


def _restore(
    repository: Repository,
    snapshot: Snapshot,
    rows: list[dict[str, Any]],
    target: PosixTarget,
    proof: SampleProof,
    progress: Progress,
) -> None:
    paths = [join_path(row["dir"], row["name"]) for row in rows]
    plan = plan_restore(repository, snapshot, target=target, paths=paths)
    restored = execute_restore(plan, repository, target, owners="keep", progress=progress)
    lost = {note["path"]: note["message"] for note in restored.warnings if note["code"] in INCOMPLETE}
    found = [(row, path, lost.get(display_path(path))) for row, path in zip(rows, paths, strict=True)]
    sizes = _chunk_sizes(repository, [row for row, _, why in found if not why])
    with target.reader() as reader:
        for row, path, why in found:
            result = why or _compare(reader, row, sizes, repository.keyring.id_key)
            proof.files.append(_entry(row, path, result))
            proof.again += [path] if result != EQUAL else []
            proof.bytes += row["size"]


def _compare(reader: TargetReader, row: dict[str, Any], sizes: dict[bytes, int], id_key: bytes) -> str:
    content = reader.open(row["dir"], row["name"])
    if content is None:
        return "is not among the restored files"
    try:
        if content.size != row["size"]:
            return f"came back with {content.size:,} bytes instead of {row['size']:,}"
        spans = stored_spans(row["size"], row["extents"])
        stored = sum(length for _, length in spans)
        cuts = [sizes[chunk] for chunk in row["chunks"]] if row["chunks"] else [stored] if stored else []
        same = content_digest(content.read_at, spans, cuts, id_key=id_key) == row["digest"]
        return EQUAL if same else "came back with other content"
    finally:
        content.close()


def _chunk_sizes(repository: Repository, rows: list[dict[str, Any]]) -> dict[bytes, int]:
    ids = {chunk for row in rows for chunk in row["chunks"] or ()}
    if not ids:
        return {}
    table = repository.index.locate(pa.array(sorted(ids), pa.binary(32)))
    return dict(zip(table["id"].to_pylist(), table["size"].to_pylist(), strict=True))


def _entry(row: dict[str, Any], path: bytes, result: str) -> dict[str, Any]:
    return {
        "path": display_path(path),
        "size": row["size"],
        "digest": row["digest"].hex(),
        "stratum": Stratum(row["stratum"]).label,
        "racy": row["state"] == State.RACY,
        "result": result,
    }


def _problems(files: list[dict[str, Any]]) -> list[Problem]:
    bad = [entry for entry in files if entry["result"] != EQUAL]
    if not bad:
        return []
    first = f"{bad[0]['path']}: {bad[0]['result']}"
    what = f"{len(bad):,} of {len(files):,} sampled files did not come back as they were: {first}"
    return [Problem("sample", what, [entry["path"] for entry in bad[:_NAMED]])]
