"""The judge: Great Expectations suites run over Arrow tables, window by window, into one validation result.

Great Expectations is imported here, in `data_docs` and in `data_set_rows`, and only when a judge is made: that takes
seconds. Owns the loading of suite files, the ephemeral context and the folding of many windows into one result of the
library's own shape. It must not know manifests, snapshots or repositories: callers say how a row is called.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

import moraine
from moraine.errors import ConfigError
from moraine.model.record import dataclass

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.core import ExpectationSuite

SUITES = Path(moraine.__file__).parent.parent / "expectations"
NAMED = 20  # failing rows that are named per expectation
_VALUE_LIMIT = 200  # characters of an unexpected value that are kept

NameRow = Callable[[int], str]


@dataclass(slots=True)
class Finding:
    """One expectation over all windows seen so far."""

    type: str
    kwargs: dict[str, Any]
    description: str | None
    severity: str
    passed: bool = True
    checked: int = 0
    missing: int = 0  # rows it says nothing about, as they hold no value
    failed: int = 0
    rows: list[str] = field(default_factory=list)  # names of the first failing rows
    values: list[Any] = field(default_factory=list)  # and what stood there
    observed: Any = None  # of expectations about a table or a whole column
    error: str | None = None  # the expectation could not be computed

    def line(self) -> str:
        """The expectation and how it failed, for people."""
        columns = [str(self.kwargs[k]) for k in ("column", "column_A", "column_B") if k in self.kwargs]
        title = f"{self.description or self.type} ({', '.join([self.type, *columns])})"
        if self.error:
            return f"{title} could not be computed: {self.error}"
        if self.checked > 1:
            return f"{title} failed for {self.failed:,} of {self.checked:,} rows"
        found = self.values[0] if self.values else self.observed
        return f"{title} failed: {found}"

    def to_dict(self) -> dict[str, Any]:
        """JSON in the shape of the library's ExpectationValidationResult."""
        config = {"type": self.type, "kwargs": self.kwargs, "severity": self.severity}
        result: dict[str, Any] = {"element_count": self.checked, "unexpected_count": self.failed}
        if self.rows:
            result |= {"partial_unexpected_list": self.values, "partial_unexpected_index_list": self.rows}
        if self.observed is not None:
            result["observed_value"] = self.observed
        exception = {"raised_exception": self.error is not None, "exception_message": self.error}
        return {
            "success": self.passed,
            "expectation_config": config | ({"description": self.description} if self.description else {}),
            "result": result,
            "exception_info": exception,
        }


class Judge:
    """Runs one suite over any number of tables."""

    def __init__(self, suite: Path | dict[str, Any], wanted: Callable[[Any], bool] | None = None) -> None:
        """Load a suite.

        Args:
            suite: its file, or what such a file holds.
            wanted: which of its expectations to take; none: all.
        """
        self._gx = _import_library()
        self._suite = _load_suite(suite, wanted)
        self._findings = {_key(c): _finding(c) for c in self._suite.expectation_configurations}
        asset = _silent_context(self._gx).data_sources.add_pandas("tables").add_dataframe_asset(self._suite.name)
        self._whole = asset.add_batch_definition_whole_dataframe("whole")
        self._windows = 0

    @property
    def name(self) -> str:
        """The suite's."""
        return str(self._suite.name)

    @property
    def version(self) -> str:
        """The library's."""
        return str(self._gx.__version__)

    @property
    def findings(self) -> list[Finding]:
        """Every expectation of the suite, in its order."""
        return list(self._findings.values())

    def judge(self, table: pa.Table, name_row: NameRow) -> bool:
        """Hold one more table against the suite; whether it passed.

        A share of rows (`mostly`) is folded: it holds for all tables together. All else holds for each of them alone.

        Args:
            table: one window of the data; its columns stay Arrow arrays.
            name_row: what the row at a position of this table is called in reports.
        """
        batch = self._whole.get_batch({"dataframe": _frame(table)})
        self._windows += 1
        # Counts first: naming rows costs the library about 20 µs a failing row, so it is asked only until it has named
        # enough of them.
        result = batch.validate(self._suite, result_format="BASIC")
        unnamed = [r for r in result.results if self._fold(r) and r.result.get("unexpected_count")]
        for finding in (self._findings[_key(r.expectation_config)] for r in unnamed):
            if len(finding.rows) < NAMED:
                self._name(batch, finding, name_row)
        return bool(result.success)

    def to_dict(self) -> dict[str, Any]:
        """JSON in the shape of the library's ExpectationSuiteValidationResult, trimmed."""
        count = len(self._findings) if self._windows else 0
        passed = sum(f.passed for f in self.findings) if count else 0
        return {
            "success": passed == count if count else None,
            "suite_name": self._suite.name,
            "statistics": {
                "evaluated_expectations": count,
                "successful_expectations": passed,
                "unsuccessful_expectations": count - passed,
                "success_percent": 100 * passed / count if count else None,
            },
            "results": [f.to_dict() for f in self.findings],
            "meta": {"great_expectations_version": self.version, "windows": self._windows},
        }

    def _fold(self, result: Any) -> bool:
        """Add one window's result; whether it failed."""
        finding = self._findings[_key(result.expectation_config)]
        body = result.result or {}
        finding.checked += body.get("element_count") or 0
        finding.missing += body.get("missing_count") or 0
        finding.failed += body.get("unexpected_count") or 0
        if "observed_value" in body:
            finding.observed = _plain(body["observed_value"])
        if not result.success:
            finding.error = finding.error or _error(result.exception_info)
        share = finding.kwargs.get("mostly", 1)
        if share == 1 or finding.error or "unexpected_count" not in body:
            finding.passed &= bool(result.success)
        else:
            counted = finding.checked - finding.missing
            finding.passed = counted - finding.failed >= share * counted
        return not result.success

    def _name(self, batch: Any, finding: Finding, name_row: NameRow) -> None:
        one = next(e for e in self._suite.expectations if _key(e.configuration) == _key(finding))
        wanted = {"result_format": "SUMMARY", "partial_unexpected_count": NAMED, "return_unexpected_index_query": False}
        body = batch.validate(one, result_format=wanted).result
        rows = body.get("partial_unexpected_index_list") or []
        values = body.get("partial_unexpected_list") or [None] * len(rows)
        for row, value in list(zip(rows, values, strict=False))[: NAMED - len(finding.rows)]:
            finding.rows.append(name_row(int(row)))
            finding.values.append(_plain(value))


def _import_library() -> Any:
    _import_when_used("scipy", "stats")  # for two rare expectations; a third of the library's time to load
    import great_expectations

    return great_expectations


def _import_when_used(package: str, name: str) -> None:
    """Have a module loaded when something in it is first used, and not when it is first imported."""
    full = f"{package}.{name}"
    spec = None if full in sys.modules else importlib.util.find_spec(full)
    if spec is None or spec.loader is None:
        return
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = sys.modules[full] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    setattr(sys.modules[package], name, module)  # where `from package import name` looks before it would be loaded


def _silent_context(gx: Any) -> Any:
    """A context in memory that reports to nobody, draws no bars and makes no directory."""
    from great_expectations.data_context.types import base

    config = base.DataContextConfig(
        store_backend_defaults=base.InMemoryStoreBackendDefaults(),
        analytics_enabled=False,
        progress_bars=base.ProgressBarsConfig(globally=False),
    )
    return gx.get_context(project_config=config, mode="ephemeral")


def _frame(table: pa.Table) -> pd.DataFrame:
    """The table for the library: on Arrow memory, but numbers as int64, which it compares without a Python loop."""
    import pandas as pd

    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        number = pa.types.is_integer(column.type) and column.type != pa.uint64() and not column.null_count
        columns[name] = column.cast(pa.int64()).to_pandas() if number else column.to_pandas(types_mapper=pd.ArrowDtype)
    return pd.DataFrame(columns, copy=False)


def _load_suite(suite: Path | dict[str, Any], wanted: Callable[[Any], bool] | None) -> ExpectationSuite:
    """A suite file in the library's own form, complete: its constructor would drop what it does not understand."""
    from great_expectations.core import ExpectationSuite
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    path = suite if isinstance(suite, Path) else "(made)"
    try:
        content = json.loads(suite.read_text("utf-8")) if isinstance(suite, Path) else suite
        name, items = content["name"], content["expectations"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is no expectation suite: {error!r}", path=str(path)) from error
    for number, item in enumerate(items):
        try:
            ExpectationConfiguration(**item).to_domain_obj()
        except Exception as error:  # the library raises its own errors, pydantic's and plain TypeError here
            kind = item.get("type") if isinstance(item, dict) else item
            raise ConfigError(
                f"expectation {number} of suite {name} ({kind}) is not valid: {error}",
                hint=f"see {path}",
                path=str(path),
            ) from error
    loaded = ExpectationSuite(**content)
    loaded.expectations = [one for one in loaded.expectations if wanted is None or wanted(one)]
    return loaded


def _finding(config: Any) -> Finding:
    kwargs = {k: _plain(v) for k, v in config.kwargs.items() if k != "batch_id"}
    return Finding(config.type, kwargs, config.description, str(getattr(config.severity, "value", config.severity)))


def _key(config: Any) -> str:
    kwargs = {k: v for k, v in config.kwargs.items() if k != "batch_id"}
    return f"{config.type} {config.description} {json.dumps(kwargs, sort_keys=True, default=str)}"


def _plain(value: Any) -> Any:
    """A value as JSON can hold it, cut where it is long."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(v) for v in value]
    if hasattr(value, "item"):
        return _plain(value.item())
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return text if len(text) <= _VALUE_LIMIT else text[:_VALUE_LIMIT] + "…"


def _error(info: Any) -> str | None:
    """The message of an expectation that raised; the library nests it under metric ids at times."""
    entries = [info] if "raised_exception" in info else list(info.values())
    messages = [str(e.get("exception_message")) for e in entries if isinstance(e, dict) and e.get("raised_exception")]
    return messages[0].splitlines()[0] if messages else None
