"""validate of a drill: the content of one restored part against the snapshot, or one data set."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pyarrow as pa

from moraine.model.entry import Kind, display_path
from moraine.model.progress import NoProgress, Progress
from moraine.model.record import dataclass
from moraine.proof.data_sets import CheckResult, DataSet, DataSetVerdict, validate_data_set
from moraine.repository.repository import Repository
from moraine.sources.posix_target import PosixTarget
from moraine.sources.target import Notes
from moraine.steps.drill_pick import Picked
from moraine.steps.drill_place import DrillPlace
from moraine.steps.drill_plan import Part, load_part
from moraine.steps.drill_restore import select_part
from moraine.steps.restore_judge import HERE, LINK, WRITTEN
from moraine.steps.restore_plan import planned
from moraine.steps.restore_verify import COLUMNS, verify_restored
from moraine.steps.suspects import named_again

Json = dict[str, Any]

_NAMED = 5


@dataclass(slots=True)
class _Content:
    """What stands in the place of one part."""

    files: int = 0
    bytes: int = 0
    equal: int = 0


def validate_item(
    repository: Repository, picked: Picked, place: DrillPlace, number: int, *, progress: Progress | None = None
) -> Json:
    """Judge one item of `sets`: label, checks, not_proven, and quoted paths that have to be read `again`."""
    item = place.load("sets")[number]
    if "content" in item:
        part = load_part(place, item["content"])
        return _content(repository, picked, place, part, progress or NoProgress()) | {"label": item["label"]}
    data_set = DataSet.from_dict(item["set"])
    scratch, docs = place.scratch / str(number), place.docs / str(number)
    for folder in (scratch, docs):
        folder.mkdir(mode=0o700, exist_ok=True)
    verdict: DataSetVerdict = validate_data_set(
        place.tree, data_set, scratch=scratch, docs=docs, repository=repository, digests=False
    )
    checks = [check.to_dict() for check in verdict.checks]
    return {"label": item["label"], "checks": checks, "not_proven": verdict.not_proven, "again": []}


def _content(repository: Repository, picked: Picked, place: DrillPlace, part: Part, progress: Progress) -> Json:
    """Count, bytes and digests of the part's files: against the manifest, never against the source."""
    target, found, notes = PosixTarget(place.tree), _Content(), Notes()
    plan = select_part(repository, picked, part, target)
    missing: list[bytes] = []
    for window, verdicts in planned(plan, repository, COLUMNS):
        stored = (window.kind == Kind.FILE) & window.valid("digest")
        gone = stored & np.isin(verdicts & ~LINK, WRITTEN)  # a second restore would still have to write these
        missing += [window.path(row) for row in np.flatnonzero(gone).tolist()]
        here = stored & np.isin(verdicts & ~LINK, HERE) & ~gone
        rows = window.table.filter(pa.array(here))
        verified = verify_restored(repository, target, rows, notes=notes, progress=progress)
        found.files += rows.num_rows
        found.bytes += int(np.sum(rows["size"].to_numpy(), dtype=np.int64))
        found.equal += verified.files
    differing = sum(notes.counts.values())
    wrong = [note["path"] for note in notes.to_list()]
    named = [display_path(path) for path in missing[:_NAMED]]
    checks = [
        _check("files", part["files"], found.files, "; ".join(named)),
        _check("bytes", part["bytes"], found.bytes, ""),
        _check("content digests", part["files"], found.equal - differing, "; ".join(wrong[:_NAMED])),
    ]
    again = named_again(missing + [os.fsencode(path) for path in wrong])
    return {"checks": [check.to_dict() for check in checks], "not_proven": [], "again": again}


def _check(name: str, expected: int, found: int, detail: str) -> CheckResult:
    return CheckResult(name, expected == found, f"{expected:,}", f"{found:,}", detail)
