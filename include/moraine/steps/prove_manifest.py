"""The manifest's part of a proof: its rows and totals, held against the built-in suites window by window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import Any, Protocol

import pyarrow as pa

from moraine.engine.rows import rechunk
from moraine.errors import IntegrityError
from moraine.model.entry import display_path, join_path
from moraine.model.policy import Policy
from moraine.model.progress import Progress
from moraine.model.record import dataclass
from moraine.model.snapshot import Snapshot
from moraine.proof.expectations import SUITES, Judge, NameRow
from moraine.proof.facts import COLUMNS, Counts, ManifestFacts
from moraine.proof.problem import Problem
from moraine.proof.sample import COLUMNS as SAMPLED
from moraine.repository.repository import Repository
from moraine.steps.gate import most_unreadable

WINDOW = 1 << 17  # rows judged at a time: larger ones are no faster, smaller ones pay the library's 80 ms more often

_READ = tuple(dict.fromkeys([*COLUMNS, *SAMPLED]))


@dataclass(slots=True)
class ManifestProof:
    """What the suites say of a manifest."""

    counts: Counts
    validations: dict[str, dict[str, Any]] = field(default_factory=dict)  # suite → the library's result, trimmed
    problems: list[Problem] = field(default_factory=list)
    expectations: int = 0
    library: str = ""


class Chooser(Protocol):
    """Chooses from the rows of a manifest, which it sees window by window in the columns of `proof.sample`."""

    def window(self, table: pa.Table) -> None:
        """One more window."""


def prove_manifest(
    repository: Repository, policy: Policy, snapshot: Snapshot, chooser: Chooser, progress: Progress
) -> ManifestProof:
    """Read the whole manifest once: judge every row and the totals, and let `chooser` choose."""
    progress.start("prove manifest", files=snapshot.rows)
    facts = ManifestFacts()
    proof = ManifestProof(facts.counts)
    rows, totals = Judge(SUITES / "manifest.json"), Judge(SUITES / "totals.json")
    proof.library = rows.version
    try:
        for table in _windows(repository, snapshot):
            rows.judge(facts.window(table), _namer(table))
            chooser.window(table)
            progress.advance(files=table.num_rows)
        most = most_unreadable(policy, facts.counts.files, facts.counts.rows)
        totals.judge(facts.counts.beside(snapshot.totals, most_unreadable=most), lambda row: "the whole snapshot")
    except IntegrityError as error:
        proof.problems.append(Problem.of_error("the manifest cannot be read", error))
    for judge in (rows, totals):
        proof.validations[judge.name] = judge.to_dict()
        proof.problems += [Problem.of_finding(finding) for finding in judge.findings if not finding.passed]
        proof.expectations += len(judge.findings)
    progress.finish("prove manifest")
    return proof


def _windows(repository: Repository, snapshot: Snapshot) -> Iterator[pa.Table]:
    return rechunk(repository.manifest(snapshot).tables(_READ), WINDOW)


def _namer(table: pa.Table) -> NameRow:
    def name(row: int) -> str:
        path = join_path(table["dir"][row].as_py(), table["name"][row].as_py())
        return display_path(path) if path else "(the root)"

    return name
