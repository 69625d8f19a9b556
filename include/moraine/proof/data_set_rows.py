"""A policy's own suites over the rows of a table, in windows, so that the table may be larger than memory.

Most expectations judge row by row, and windows can be judged one after the other. A number of rows is counted and
judged at the end. What needs a whole column (uniqueness, means, quantiles) is judged on that column alone, when it is
small enough; else it is not proven, and said to be so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from moraine.errors import ConfigError
from moraine.proof.data_set import DataSet
from moraine.proof.expectations import SUITES, Finding, Judge
from moraine.proof.table_rows import windows

WHOLE_COLUMN = 128 << 20  # bytes of the columns an expectation needs at once

_COUNT = "row_count"  # the column that stands for a table's number of rows
_COUNTS = ("expect_table_row_count_to_be_between", "expect_table_row_count_to_equal")
_IN_ORDER = ("expect_column_values_to_be_increasing", "expect_column_values_to_be_decreasing")
_WHOLE = ("expect_column_values_to_be_unique", "expect_compound_columns_to_be_unique", *_IN_ORDER)
_ANY_WINDOW = (
    "expect_column_to_exist",
    "expect_table_column_count_to_be_between",
    "expect_table_column_count_to_equal",
    "expect_table_columns_to_match_ordered_list",
    "expect_table_columns_to_match_set",
    "expect_column_distinct_values_to_be_in_set",
)


def judge_rows(name: str, data_set: DataSet, paths: Sequence[Path], not_proven: list[str]) -> Iterator[Judge]:
    """Hold a suite of `include/expectations` against the rows of these files; judges that have judged.

    Raises:
        ConfigError: there is no such suite, or it is not valid.
        OSError, ArrowException: the rows of a file cannot be read.
    """
    suite = SUITES / f"{name}.json"
    if not suite.is_file():
        known = ", ".join(sorted(path.stem for path in SUITES.glob("*.json")))
        raise ConfigError(f"there is no expectation suite {name}", hint=f"there are: {known}", path=str(suite))
    yield from _judged(suite, data_set, paths, not_proven)


def _judged(suite: Path, data_set: DataSet, paths: Sequence[Path], not_proven: list[str]) -> Iterator[Judge]:
    by_row, by_count = Judge(suite, _by_row), Judge(suite, _one_of(_COUNTS))
    columns = Judge(suite, lambda one: not _by_row(one) and one.expectation_type not in _COUNTS)
    rows = 0
    if by_row.findings or by_count.findings:
        for table in windows(data_set.kind, paths, data_set.rules, _columns(by_row)):
            if by_row.findings:
                by_row.judge(table, _namer(rows))
            rows += table.num_rows
    if by_row.findings:
        yield by_row
    if by_count.findings:
        yield _counted(by_count, data_set, rows, not_proven)
    for finding in columns.findings:
        same = _same(finding.type, finding.kwargs)
        judge = _on_columns(Judge(suite, same), data_set, paths)
        if judge:
            yield judge
        else:
            limit = f"its columns take more than {WHOLE_COLUMN >> 20} MiB"
            not_proven.append(
                f"{finding.type} of suite {suite.stem}: it needs whole columns of {data_set.name}, {limit}"
            )


def _columns(judge: Judge) -> list[str] | None:
    """The columns that a suite's expectations name, as no others need to be read; None: all of them."""
    names: list[str] = []
    for finding in judge.findings:
        mine = _named_columns(finding.kwargs)
        if not mine or "row_condition" in finding.kwargs:
            return None
        names += mine
    return list(dict.fromkeys(names))


def _named_columns(kwargs: dict[str, Any]) -> list[str]:
    """The columns an expectation is about."""
    single = [kwargs[name] for name in ("column", "column_A", "column_B") if name in kwargs]
    return [*single, *kwargs.get("column_list", ())]


def _by_row(one: Any) -> bool:
    """Whether an expectation holds for a table when it holds for each window of it."""
    from great_expectations.expectations import expectation as kinds

    row_kinds = (kinds.ColumnMapExpectation, kinds.ColumnPairMapExpectation, kinds.MulticolumnMapExpectation)
    name = one.expectation_type
    return name in _ANY_WINDOW or (isinstance(one, row_kinds) and name not in _WHOLE)


def _one_of(names: tuple[str, ...]) -> Callable[[Any], bool]:
    return lambda one: one.expectation_type in names


def _same(kind: str, kwargs: dict[str, Any]) -> Callable[[Any], bool]:
    def wanted(one: Any) -> bool:
        given = one.configuration.kwargs
        return bool(one.expectation_type == kind and all(given.get(k) == v for k, v in kwargs.items()))

    return wanted


def _namer(before: int) -> Callable[[int], str]:
    return lambda row: f"row {before + row + 1:,}"


def _counted(counts: Judge, data_set: DataSet, rows: int, not_proven: list[str]) -> Judge:
    """The suite's words on the number of rows, held against the number that was counted.

    The library would count the rows of a frame, which has to be as long as the table.
    """
    judge = Judge({"name": counts.name, "expectations": [_of_count(finding) for finding in counts.findings]})
    judge.judge(pa.table({_COUNT: [rows]}), lambda row: f"{rows:,} rows found")
    if not data_set.whole:
        not_proven.append(f"the row count of {data_set.name}: the files of a sample were counted")
    return judge


def _of_count(finding: Finding) -> dict[str, Any]:
    kwargs = {name: value for name, value in finding.kwargs.items() if name != "value"}
    if "value" in finding.kwargs:
        kwargs |= {"min_value": finding.kwargs["value"], "max_value": finding.kwargs["value"]}
    words = ", ".join(f"{name} {value}" for name, value in kwargs.items())
    return {
        "type": "expect_column_values_to_be_between",
        "kwargs": {"column": _COUNT, **kwargs},
        "description": finding.description or f"{finding.type} ({words})",
        "severity": finding.severity,
        "meta": {},
    }


def _on_columns(judge: Judge, data_set: DataSet, paths: Sequence[Path]) -> Judge | None:
    """Judge the columns an expectation names, all rows at once; None when they are too large."""
    names = _columns(judge)
    held: list[pa.Table] = []
    size = 0
    for table in windows(data_set.kind, paths, data_set.rules, names):
        held.append(table)
        size += table.nbytes
        if size > WHOLE_COLUMN:
            return None
    judge.judge(pa.concat_tables(held, promote_options="default"), _namer(0))
    return judge
