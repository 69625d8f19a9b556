"""check of a mirror: what it knows of itself, what somebody else did to the tree, and the bytes of its files."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from moraine.engine.lots import Lots
from moraine.model.progress import NoProgress, Progress
from moraine.repository.repository import Repository
from moraine.steps.check import Checked
from moraine.steps.check_findings import PATHS, Findings
from moraine.steps.check_log import check_log
from moraine.steps.check_manifests import check_snapshots
from moraine.steps.mirror_diff import drift_sentence
from moraine.steps.mirror_drift import Drift, find_drift
from moraine.steps.mirror_verify import READ, compare_files

_CODES = {
    "missing": "mirror-missing",
    "added": "mirror-added",
    "changed": "mirror-changed",
    "attributes": "mirror-attributes",
}


def check_mirror(
    repository: Repository, *, read_data: float, clock: Callable[[], datetime], progress: Progress | None = None
) -> Checked:
    """Compare the mirror with how the newest snapshot left it, and a share of its files with their digests.

    Args:
        repository: of the mirror.
        read_data: share of the files to read and hash; which ones changes by the day.
        clock: the time now.
        progress: told of files and bytes.
    """
    assert repository.mirror
    progress = progress or NoProgress()
    started = clock()
    findings = Findings()
    check_log(repository, findings)
    if check_snapshots(repository, findings):
        newest = repository.find("latest").id
        _drift(repository, newest, findings)
        _content(repository, newest, read_data, started, findings, progress)
    problems = [problem.to_dict() for problem in findings.problems]
    return Checked(problems, findings.notes, findings.counts, read_data, (clock() - started).total_seconds())


def _drift(repository: Repository, snapshot: str, findings: Findings) -> None:
    assert repository.mirror
    drift = Drift()
    for _ in find_drift(repository, repository.mirror, snapshot, drift):
        pass
    findings.count("mirror_entries", drift.entries)
    for word, count in drift.counts.items():
        if count:
            named = [item for item in drift.named if item["what"] == word]
            text = drift_sentence({"counts": {word: count}, "named": named})
            problem = findings.add(_CODES[word], "", f"somebody else has changed the mirror: {text}")
            problem.paths.update(dict.fromkeys(item["path"] for item in named[:PATHS]))
    if drift.ours:
        findings.note("mirror-unfinished", f"{drift.ours:,} entries are of a run that did not end: run it again")


def _content(
    repository: Repository, snapshot: str, share: float, at: datetime, findings: Findings, progress: Progress
) -> None:
    assert repository.mirror
    lots = Lots(at.date().isoformat())
    rows = 0
    progress.start("check")
    with findings.guard("manifest", snapshot), repository.mirror.reader() as look:
        for table in repository.manifest(repository.snapshot(snapshot)).tables(READ):
            rows += table.num_rows
            for path, size, wrong in compare_files(table, look, repository, share=share, lots=lots):
                findings.count("files_read")
                findings.count("bytes_read", size)
                progress.advance(files=1, bytes=size)
                if wrong:
                    problem = findings.add("mirror-content", "", f"{path} in the mirror {wrong}")
                    problem.paths[path] = None
                    problem.files += 1
                    problem.snapshots.add(snapshot)
    findings.count("manifest_rows", rows)
    progress.finish("check")
