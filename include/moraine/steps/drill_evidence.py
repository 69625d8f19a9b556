"""The evidence of a drill as a table: a row for each check, with all that is known of the drill beside it."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from moraine.model.window import parse_time

_TIME = pa.timestamp("us")  # UTC

EVIDENCE = pa.schema(
    [
        ("drill", pa.string()),
        ("policy", pa.string()),
        ("policy_digest", pa.string()),
        ("store", pa.string()),
        ("snapshot", pa.string()),
        ("captured_at", _TIME),
        ("seed", pa.uint64()),
        ("pick", pa.string()),
        ("whole", pa.bool_()),
        ("started_at", _TIME),
        ("finished_at", _TIME),
        ("seconds", pa.float64()),
        ("passed", pa.bool_()),  # the drill
        ("sound", pa.bool_()),  # the snapshot; null: nothing was shown
        ("reason", pa.string()),
        ("files", pa.int64()),  # restored
        ("bytes", pa.int64()),
        ("restore_seconds", pa.float64()),
        ("files_per_second", pa.float64()),
        ("bytes_per_second", pa.float64()),
        ("forecast_seconds", pa.float64()),
        ("rto_seconds", pa.float64()),
        ("subject", pa.string()),
        ("check", pa.string()),
        ("check_passed", pa.bool_()),
        ("expected", pa.string()),
        ("found", pa.string()),
        ("detail", pa.string()),
        ("not_proven", pa.string()),
        ("version", pa.string()),
    ]
)

_SAME = ("drill", "policy", "policy_digest", "store", "snapshot", "seed", "pick", "whole", "seconds", "passed", "sound")
_PACE = ("files", "bytes", "files_per_second", "bytes_per_second", "forecast_seconds", "rto_seconds")


def evidence(report: dict[str, Any]) -> pa.Table:
    """The rows of one report; one that came to no check has one row without."""
    pace = report["measured"] or {}
    common = {name: report[name] for name in _SAME} | {name: pace.get(name) for name in _PACE}
    common |= {name: _time(report[name]) for name in ("captured_at", "started_at", "finished_at")}
    common |= {
        "restore_seconds": pace.get("seconds"),
        "reason": "; ".join(report["reasons"]) or None,
        "not_proven": "; ".join(report["not_proven"]) or None,
        "version": report["versions"]["moraine"],
    }
    rows = [common | _check(check) for check in report["checks"]] or [common]
    return pa.Table.from_pylist(rows, schema=EVIDENCE)


def _check(check: dict[str, Any]) -> dict[str, Any]:
    return {
        "subject": check["subject"],
        "check": check["name"],
        "check_passed": check["passed"],
        "expected": _text(check["expected"]),
        "found": _text(check["found"]),
        "detail": check["detail"] or None,
    }


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _time(text: str | None) -> Any:
    return parse_time(text).replace(tzinfo=None) if text else None
