"""check: is everything there that restores need, and is it what was written? Changes nothing and never stops early."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from moraine.errors import ConfigError
from moraine.model.progress import NoProgress, Progress
from moraine.model.record import dataclass
from moraine.repository.index import Index
from moraine.repository.repository import Repository
from moraine.steps.check_findings import Findings
from moraine.steps.check_log import check_log
from moraine.steps.check_manifests import check_manifests, check_segments, check_snapshots, lost_paths
from moraine.steps.check_packs import check_packs


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found.

    A problem has `code`, `object` (a key), `message`, the `snapshots` it costs something, how many `files` of them
    (versions) and the first of their `paths`.
    """

    problems: list[dict[str, Any]]
    notes: list[dict[str, str]]
    counts: dict[str, int]
    read_data: float
    seconds: float

    @property
    def exit_code(self) -> int:
        """0: all is well; 50: something is damaged."""
        return 50 if self.problems else 0


def check_repository(
    repository: Repository,
    *,
    read_data: float = 0.0,
    clock: Callable[[], datetime],
    readers: int = 2,
    progress: Progress | None = None,
) -> Checked:
    """Check a repository that could be opened.

    Args:
        repository: what to check, as of its log.
        read_data: share of packs to read, decrypt, decompress and hash: 0 none, 1 all. Which ones changes by the day,
            so that a small share every day comes round.
        clock: the time now.
        readers: packs read at once: each takes a processor, and about 25 MiB where chunks are large.
        progress: told of packs and bytes.

    Raises:
        StoreError, StoreUnavailable: the store fails; damage is never raised.
    """
    if not 0 <= read_data <= 1:
        raise ConfigError(f"read_data is {read_data}", hint="give a share: 0 reads no pack, 0.05 a twentieth, 1 all")
    started = clock()
    findings = Findings()
    repository.objects.clear()  # what an earlier step has read may be gone by now
    check_log(repository, findings)
    snapshots = check_snapshots(repository, findings)
    index = Index(repository.objects, repository.keyring, check_segments(repository, findings))
    readable = check_manifests(repository, snapshots, index, findings)
    seed = started.date().isoformat().encode()
    progress = progress or NoProgress()
    check_packs(repository, index, findings, share=read_data, seed=seed, readers=readers, progress=progress)
    lost_paths(repository, readable, findings)
    problems = [problem.to_dict() for problem in findings.problems]
    return Checked(problems, findings.notes, findings.counts, read_data, (clock() - started).total_seconds())
