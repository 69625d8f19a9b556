"""The sample's part of a proof: files restored by the restore step, and compared with the manifest by hash.

Only with the manifest: the source may have changed since. The copies stand in a closed directory and are gone when
this is over, whatever happens.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from moraine.errors import IntegrityError, RestoreError
from moraine.model.entry import Kind, State, display_path, join_path
from moraine.model.progress import Progress
from moraine.model.snapshot import Snapshot
from moraine.proof.problem import Problem
from moraine.proof.rehash import content_digest, stored_spans
from moraine.proof.sample import Stratum
from moraine.repository.repository import Repository
from moraine.sources.posix_target import PosixTarget
from moraine.sources.target import INCOMPLETE, Extra, TargetReader
from moraine.steps.restore import execute_restore
from moraine.steps.restore_plan import plan_restore

EQUAL = "equal"
_NAMED = 20


@dataclass(slots=True)
class SampleProof:
    """What came back."""

    files: list[dict[str, Any]] = field(default_factory=list)  # path, size, digest, stratum, racy, result
    bytes: int = 0
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
    with _closed_directory(scratch):
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
            proof.files.append(_entry(row, path, why or _compare(reader, row, sizes, repository.keyring.id_key)))
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


@contextmanager
def _closed_directory(path: Path) -> Iterator[None]:
    """A new directory that only this user can enter; removed at the end with all that is in it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700)
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        yield
    except OSError as error:
        raise _unusable(path, error) from error
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    name = os.fsencode(path.name)
    try:
        if os.geteuid():
            _make_removable(path)
        with PosixTarget(path.parent).writer(owners="keep") as writer:
            writer.remove(Extra(b"", name, Kind.DIRECTORY, 1, 0))
    except OSError as error:
        raise _unusable(path, error) from error
    if path.exists():
        raise RestoreError(f"the scratch {path} could not be removed", hint="remove it by hand", target=str(path))


def _make_removable(path: Path) -> None:
    """Restored directories may be closed even to their owner; root does not care."""
    for _, folders, _, fd in os.fwalk(path):
        for name in folders:
            if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                os.chmod(name, 0o700, dir_fd=fd)


def _unusable(path: Path, error: OSError) -> RestoreError:
    return RestoreError(
        f"the scratch {path} cannot be used: {error.strerror}",
        hint="choose a directory on a disk with room that this user may write to",
        target=str(path),
    )
