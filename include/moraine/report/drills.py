"""Drills that were held: the reports with the repository, listed, and their evidence as the SQL table `drills`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from moraine.errors import SnapshotNotFound
from moraine.repository import layout
from moraine.repository.repository import Repository
from moraine.steps.drill_evidence import EVIDENCE

Json = dict[str, Any]

_DRILLS = "drills/"


def reports(repository: Repository, policy: str | None = None) -> list[Json]:
    """The reports of all drills, or of one policy's, the newest first; also of snapshots that are forgotten since."""
    keys = [info.key for info in repository.store.list(layout.report(_DRILLS)) if info.key.endswith(".json")]
    found = [repository.load_report(key) for key in sorted(keys, key=lambda key: key.rpartition("/")[2], reverse=True)]
    return [report for report in found if policy is None or report["policy"] == policy]


def find_report(repository: Repository, name: str, policy: str | None = None) -> Json:
    """One report, by the drill's id, an end of it, or `latest`. Raises SnapshotNotFound."""
    known = reports(repository, policy)
    wanted = name.upper()
    found = [r for r in known if r["drill"].startswith(wanted) or (len(wanted) >= 4 and r["drill"].endswith(wanted))]
    if name == "latest":
        found = known[:1]
    if len(found) != 1:
        raise SnapshotNotFound(f"{len(found)} drills match {name!r}", hint="`moraine drill --list` shows them")
    return found[0]


def page_of(repository: Repository, report: Json) -> str:
    """The page of a drill, as it was kept."""
    page: str = repository.load_report(report["page"])["html"]
    return page


def drills_table(repository: Repository) -> pa.Table:
    """A row for each check of every drill, the oldest drill first."""
    return pa.concat_tables([EVIDENCE.empty_table(), *_tables(repository)])


def _tables(repository: Repository) -> Iterator[pa.Table]:
    for report in reversed(reports(repository)):
        yield repository.load_report_table(report["table"]).select(EVIDENCE.names).cast(EVIDENCE)
