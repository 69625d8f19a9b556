"""Holds one restored data set against its checks: looks at its files window by window, and lets the suites judge.

Memory is bounded by a window of files and a window of rows, whatever the size of the data set. What cannot be known
is said to be not proven; it neither passes nor fails.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from moraine.engine.rows import rechunk
from moraine.model.entry import Kind, display_path
from moraine.model.record import dataclass
from moraine.proof.data_docs import write_docs
from moraine.proof.data_set import FILES, CheckResult, DataSet, DataSetVerdict
from moraine.proof.data_set_critical import critical_facts
from moraine.proof.data_set_files import compare_files
from moraine.proof.data_set_plan import row_paths
from moraine.proof.data_set_rows import judge_rows
from moraine.proof.data_set_tables import Tables, compares
from moraine.proof.expectations import SUITES, Finding, Judge
from moraine.proof.look import FACTS, Look, full_path, look_at
from moraine.repository.repository import Repository
from moraine.sources.posix import PosixSource

WINDOW = 1 << 13  # files judged at a time
_SUITE = {"parquet": "footers", "orc": "footers", "container": "containers", "image": "images"}
_NAMED = 5  # failing files in a check's detail
_LIMITS = {
    "image": "the pixels of images: their structure is walked, and the checksums of PNG computed",
    "sqlite": "row counts of SQLite tables: none are recorded, the files are as they were by digest",
    "csv": "row counts of CSV files: none are recorded, the files are as they were by digest",
    "jsonl": "row counts of JSON lines: none are recorded, the files are as they were by digest",
}


def validate_data_set(
    root: Path,
    data_set: DataSet,
    *,
    scratch: Path,
    docs: Path | None,
    repository: Repository | None = None,
    digests: bool = True,
) -> DataSetVerdict:
    """Check one data set.

    Args:
        root: the restored tree, or a sample of it: then `data_set` says so (`sampled`).
        data_set: what to check, from `plan_data_sets`.
        scratch: a directory for copies; what is put there goes again.
        docs: where the data docs go; none: nowhere.
        repository: where the snapshot is: lets missing, extra and changed files be found by name.
        digests: read the restored files again to compare their digests; no, where the restore has done so.

    Raises:
        ConfigError: a suite that the policy names is not there, or not valid.
        SourceError: the restored tree cannot be read.
    """
    work = _Validation(root, data_set, scratch, docs)
    if data_set.kind == FILES:
        work.all_files(repository, digests)
    else:
        work.one_kind()
    return DataSetVerdict(data_set.name, work.checks, work.not_proven)


@dataclass
class _Validation:
    root: Path
    data_set: DataSet
    scratch: Path
    docs: Path | None
    checks: list[CheckResult] = field(default_factory=list)
    not_proven: list[str] = field(default_factory=list)
    files: int = 0
    size: int = 0  # bytes
    pages: int = 0  # of data docs
    unread: dict[bytes, str] = field(default_factory=dict)  # files that nobody can judge here, and why

    def all_files(self, repository: Repository | None, digests: bool) -> None:
        for rows in self._windows():
            self.files += rows.num_rows
            self.size += _bytes(rows)
        self._counts()
        if repository is None:
            self.not_proven.append("names of restored files: only their number and size were compared")
            return
        judge = Judge(SUITES / "data/files.json")
        for facts, notes in compare_files(self.root, self.data_set, repository, digests=digests):
            judge.judge(facts, notes.__getitem__)
        self._take(judge)

    def one_kind(self) -> None:
        kind = self.data_set.kind
        stated = bool(self.data_set.rules.get("columns"))
        judge = Judge(SUITES / f"data/{_SUITE.get(kind, kind)}.json", lambda one: stated or not _of_columns(one))
        tables = Tables(self.data_set) if kind in ("parquet", "orc") else None
        for rows in self._windows():
            self.files += rows.num_rows
            self.size += _bytes(rows)
            seen = self._looks(row_paths(rows).to_pylist())
            if not seen:
                continue
            paths, looks = list(seen), list(seen.values())
            facts = _facts(paths, looks)
            if tables:
                facts = facts.append_column("shape_recorded", pa.array(tables.add(paths, looks), pa.bool_()))
            notes = [_note(path, look, self.data_set.recorded) for path, look in zip(paths, looks, strict=True)]
            judge.judge(facts, notes.__getitem__)
        self._counts()
        if self.files > len(self.unread):
            self._take(judge)
        self._say_unread()
        if tables:
            self._tables(tables)
        self._critical()
        self._suites()
        self.not_proven += [_LIMITS[kind]] if kind in _LIMITS else []

    def _windows(self) -> Iterator[pa.Table]:
        """The set's regular files as they stand under the root, in manifest order."""
        source = PosixSource(str(self.root))
        source.probe()
        for batch in rechunk((pa.table(b) for s in source.shards(1) for b in source.list(s)), WINDOW):
            rows = batch.select(["dir", "name", "size"]).filter(pa.array(batch["kind"].to_numpy() == Kind.FILE))
            mine = rows.filter(pa.array(self.data_set.mask(row_paths(rows))))
            if mine.num_rows:
                yield mine

    def _looks(self, paths: list[bytes]) -> dict[bytes, Look]:
        """What these files are like, without those of which nobody can say it here."""
        kind, rules = self.data_set.kind, self.data_set.rules
        found = {path: look_at(kind, full_path(self.root, path), rules, self.scratch) for path in paths}
        self.unread |= {path: look.unread for path, look in found.items() if look.unread}
        return {path: look for path, look in found.items() if not look.unread}

    def _say_unread(self) -> None:
        for reason in sorted(set(self.unread.values())):
            files = [path for path, why in self.unread.items() if why == reason]
            named = ", ".join(display_path(path) for path in files[:_NAMED])
            count = "1 file" if len(files) == 1 else f"{len(files):,} files"
            self.not_proven.append(f"that {count} can be read: {reason} ({named})")

    def _counts(self) -> None:
        recorded = self.data_set.recorded
        if not self.data_set.whole:
            left = recorded["files"] - self.files
            self.not_proven.append(
                f"that all files came back: {left:,} of {recorded['files']:,} were not in the sample"
            )
            return
        row = {"files": self.files, "bytes": self.size}
        row |= {f"recorded_{name}": recorded[name] for name in row}
        self._one_row("counts", row)

    def _tables(self, tables: Tables) -> None:
        facts, notes = tables.facts(self.not_proven)
        if facts.num_rows:
            judge = Judge(
                SUITES / "data/tables.json", lambda one: compares(facts, one.configuration.kwargs, self.data_set.rules)
            )
            judge.judge(facts, notes.__getitem__)
            self._take(judge)

    def _critical(self) -> None:
        stated = self.data_set.rules.get("critical") or {}
        facts, notes = critical_facts(self.root, self.data_set, stated, self.not_proven)
        if facts.num_rows:
            judge = Judge(SUITES / "data/critical.json")
            judge.judge(facts, notes.__getitem__)
            self._take(judge)

    def _suites(self) -> None:
        """The policy's own suites, over the rows of all files together."""
        names = self.data_set.rules.get("expectations", ())
        every = (path for rows in self._windows() for path in row_paths(rows).to_pylist()) if names else ()
        paths = [full_path(self.root, path) for path in every if path not in self.unread]
        for name in names if paths else ():
            try:
                for judge in judge_rows(name, self.data_set, paths, self.not_proven):
                    self._take(judge)
            except (OSError, pa.ArrowException) as error:
                said = f"they cannot be read: {str(error).strip().splitlines()[0]}"
                self.checks.append(CheckResult(f"the rows for suite {name} can be read", False, "all rows", said))
        if names and self.unread:
            self.not_proven.append("the policy's expectations on rows of files that nobody can read here")
        if names and not self.data_set.whole:
            self.not_proven.append("the policy's expectations on rows that were not in the sample")

    def _one_row(self, suite: str, row: dict[str, int]) -> None:
        judge = Judge(SUITES / f"data/{suite}.json")
        judge.judge(pa.table({name: pa.array([value], pa.int64()) for name, value in row.items()}), lambda _: "")
        self._take(judge, row)

    def _take(self, judge: Judge, row: dict[str, Any] | None = None) -> None:
        self.checks += [_result(finding, row) for finding in judge.findings if not _vacuous(finding)]
        if self.docs:
            self.pages += 1
            write_docs(self.docs, judge.to_dict(), name=self.data_set.name, number=self.pages)


def _of_columns(one: Any) -> bool:
    return bool(one.configuration.kwargs.get("column_B") == "wanted_columns")


def _vacuous(finding: Finding) -> bool:
    """Nothing was there to be held against it, so it says nothing."""
    return bool(finding.kwargs.get("value_set")) and finding.checked == finding.missing and not finding.error


def _result(finding: Finding, row: dict[str, Any] | None) -> CheckResult:
    name = finding.description or finding.type
    if finding.error:
        return CheckResult(name, False, name, f"could not be computed: {finding.error}")
    if row:
        wanted, found = row[finding.kwargs["column_B"]], row[finding.kwargs["column_A"]]
        return CheckResult(name, finding.passed, f"{wanted:,}", f"{found:,}")
    if not finding.checked:
        return CheckResult(name, finding.passed, finding.description or _expected(finding), str(finding.observed))
    counted = finding.checked - finding.missing if finding.kwargs.get("value_set") else finding.checked
    expected = f"all {counted or finding.checked:,}" if finding.description else _expected(finding)
    found = (
        f"{finding.failed:,} of {finding.checked:,} are not so"
        if finding.failed
        else f"all {counted or finding.checked:,}"
    )
    return CheckResult(name, finding.passed, expected, found, "; ".join(_named(finding)))


def _expected(finding: Finding) -> str:
    words = [f"{name} {value}" for name, value in finding.kwargs.items() if name not in ("ignore_row_if", "or_equal")]
    return ", ".join(words)


def _named(finding: Finding) -> list[str]:
    more = finding.failed - len(finding.rows[:_NAMED])
    return [*finding.rows[:_NAMED], *([f"and {more:,} more"] if more > 0 and finding.rows else [])]


def _facts(paths: Sequence[bytes], looks: list[Look]) -> pa.Table:
    columns = {name: [getattr(look, name) for look in looks] for name in FACTS.names[1:]}
    return pa.table({"path": [display_path(path) for path in paths]} | columns, schema=FACTS)


def _note(path: bytes, look: Look, recorded: dict[str, Any]) -> str:
    name = display_path(path)
    known = recorded.get("broken", {}).get(name)
    said = [look.problem] if look.problem else []
    said += ["it was broken at the source when it was backed up"] if look.problem and known else []
    said += [f"{look.bad_rows:,} of {look.rows or 0:,} rows are bad: {look.first_bad}"] if look.bad_rows else []
    if look.wanted_columns and look.columns != look.wanted_columns:
        said.append(f"expected columns {look.wanted_columns}, found {look.columns}")
    elif look.rows is not None and look.columns and not said:
        said.append(f"found columns {look.columns}, which the night did not record")
    return f"{name}: {'; '.join(said)}"


def _bytes(rows: pa.Table) -> int:
    return int(rows["size"].to_numpy().sum(dtype=np.int64))
