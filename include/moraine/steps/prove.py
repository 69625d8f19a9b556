"""prove: a committed snapshot is held against its expectations, and a sample of it is restored and compared by hash.

What was found is kept under `reports/` whatever it is, then the log says so, and only then does a failure fail the
step. Trouble that says nothing about the snapshot (the store does not answer, the scratch is full) is raised as it is
and leaves no verdict.
"""

from __future__ import annotations

import platform
from dataclasses import asdict, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from moraine import __version__
from moraine.errors import ProofFailed
from moraine.model.ids import make_ulid
from moraine.model.policy import Policy
from moraine.model.progress import NoProgress, Progress
from moraine.model.record import dataclass
from moraine.model.snapshot import Snapshot
from moraine.model.window import format_time
from moraine.proof.problem import Problem
from moraine.proof.sample import Sampler, seed_of
from moraine.repository.keys import Entropy
from moraine.repository.repository import Repository
from moraine.steps.prove_manifest import ManifestProof, prove_manifest
from moraine.steps.prove_sample import SampleProof, prove_sample
from moraine.steps.run import Clock
from moraine.steps.suspects import named_again

REPORT_VERSION = 1
_NAMED = 20  # failing rows in the error


@dataclass(frozen=True, slots=True)
class Proven:
    """What stands after a proof that passed."""

    snapshot: str
    report: str  # object key
    rows: int
    expectations: int
    sampled_files: int
    sampled_bytes: int
    not_proven: list[str] = field(default_factory=list)
    seconds: float = 0.0


def prove(
    repository: Repository,
    policy: Policy,
    snapshot_id: str,
    *,
    clock: Clock,
    entropy: Entropy,
    scratch: Path,
    progress: Progress | None = None,
) -> Proven:
    """Prove one snapshot.

    Args:
        repository: where it is.
        policy: says how large the sample is and how much may be unreadable.
        snapshot_id: its id.
        clock: the time now.
        entropy: random bytes, for the report's name.
        scratch: a directory on a disk with room for the sample; a directory of its own is made in it and removed again.
        progress: told of both parts.

    Raises:
        ProofFailed: an expectation does not hold or a sampled file does not come back as it was; the report is kept.
    """
    repository.objects.clear()  # a proof is of what is stored, not of what an earlier step has read
    snapshot = repository.snapshot(snapshot_id)
    started = clock()
    ulid = make_ulid(started, entropy(10))
    work = scratch / f"prove-{ulid}"
    manifest, sample, sampler, judged = _examine(repository, policy, snapshot, work, clock, progress or NoProgress())
    report = _report(policy, snapshot, manifest, sample, sampler, [started, judged, clock()])
    key = repository.save_report(f"prove/{snapshot.id}/{ulid}.json", report)
    problems = manifest.problems + sample.problems
    verdict = {"snapshot": snapshot.id, "report": key, "passed": not problems}
    repository.log.append("prove", verdict, now=clock())
    if problems:
        raise _failure(snapshot, key, problems)
    counts = (manifest.counts.rows, manifest.expectations, len(sample.files), sample.bytes)
    return Proven(snapshot.id, key, *counts, report["not_proven"], report["seconds"]["total"])


def _examine(
    repository: Repository, policy: Policy, snapshot: Snapshot, work: Path, clock: Clock, progress: Progress
) -> tuple[ManifestProof, SampleProof, Sampler, datetime]:
    """Both parts, and when the first was over."""
    sampler = Sampler(
        seed=seed_of(snapshot.id),
        files=policy.prove.sample_files,
        bytes=policy.prove.sample_bytes,
        session=snapshot.session,
        small=repository.config.chunking.small,
    )
    manifest = prove_manifest(repository, policy, snapshot, sampler, progress)
    judged = clock()
    if manifest.problems:
        sample = SampleProof(skipped="a manifest that fails is not restored from")
    else:
        sample = prove_sample(repository, snapshot, sampler.chosen(), work, progress)
    return manifest, sample, sampler, judged


def _report(
    policy: Policy,
    snapshot: Snapshot,
    manifest: ManifestProof,
    sample: SampleProof,
    sampler: Sampler,
    times: list[datetime],
) -> dict[str, Any]:
    started, judged, ended = times
    problems = manifest.problems + sample.problems
    return {
        "version": REPORT_VERSION,
        "kind": "prove",
        "snapshot": snapshot.id,
        "policy": snapshot.policy,
        "policy_digest": policy.digest,
        "window": snapshot.window.to_dict(),
        "started_at": format_time(started),
        "finished_at": format_time(ended),
        "seconds": {
            "manifest": (judged - started).total_seconds(),
            "sample": (ended - judged).total_seconds(),
            "total": (ended - started).total_seconds(),
        },
        "passed": not problems,
        "problems": [problem.to_dict() for problem in problems],
        "counts": asdict(manifest.counts),
        "validations": manifest.validations,
        "sample": {
            "seed": seed_of(snapshot.id),
            "asked": asdict(policy.prove),
            "population": asdict(sampler.population),
            "bytes": sample.bytes,
            "files": sample.files,
        },
        "again": named_again(sample.again),
        "not_proven": _not_proven(policy, manifest, sample, sampler),
        "versions": _versions(manifest.library),
    }


def _versions(library: str) -> dict[str, str]:
    return {
        "moraine": __version__,
        "great_expectations": library,
        "pyarrow": pa.__version__,
        "python": platform.python_version(),
    }


def _not_proven(policy: Policy, manifest: ManifestProof, sample: SampleProof, sampler: Sampler) -> list[str]:
    """What a reader of the report might take for proven and is not."""
    population, unreadable = sampler.population, manifest.counts.unreadable
    left, left_bytes = population.files - len(sample.files), population.bytes - sample.bytes
    said = {
        f"that files come back: {sample.skipped}": sample.skipped is not None,
        f"the content of {left:,} files ({left_bytes:,} bytes): they were not in the sample": left,
        f"{population.too_large:,} files larger than prove.sample_bytes: never in a sample": population.too_large,
        f"{unreadable:,} entries that could not be read when the snapshot was taken": unreadable,
        f"that {sample.racy:,} sampled files are of one moment: they changed while they were read": sample.racy,
        "the policy's checks: a drill holds them against data": len(policy.checks),
        "owners, modes, times and extended attributes of restored files": 1,
    }
    return [text for text, count in said.items() if count]


def _failure(snapshot: Snapshot, key: str, problems: list[Problem]) -> ProofFailed:
    rows = list(dict.fromkeys(row for problem in problems for row in problem.rows))[:_NAMED]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    named = f"first rows: {', '.join(rows[:5])}; " if rows else ""
    return ProofFailed(
        f"snapshot {snapshot.id} is not proven: {problems[0].what}{more}",
        hint=f"{named}all of it stands in {key}; `moraine check --read-data` tells what is lost",
        snapshot=snapshot.id,
        report=key,
        problems=[problem.what for problem in problems],
        rows=rows,
    )
