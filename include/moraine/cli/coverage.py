"""`moraine coverage`: which windows of a policy's schedule have a snapshot, and which have none."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from moraine.cli.context import Context
from moraine.cli.flags import day
from moraine.cli.text import plural, show_time, table

if TYPE_CHECKING:
    from moraine.engine.coverage import Coverage
    from moraine.report.coverage import CoverageReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's own arguments."""
    parser.add_argument("policy", metavar="POLICY", help="a policy file, or the name of one in include/policies")
    parser.add_argument(
        "--from",
        dest="start",
        metavar="DATE",
        type=day,
        help="windows that begin on this day or later (default: since the schedule's start or the first snapshot)",
    )


def run(args: argparse.Namespace, context: Context) -> int:
    """Print every window, newest last; missed windows are not an error of this verb."""
    from moraine.report.coverage import coverage

    policy = context.find_policy(args.policy)
    zone = ZoneInfo(policy.schedule.timezone if policy.schedule else "UTC")
    start = datetime.combine(args.start, time(), zone).astimezone(UTC) if args.start else None
    repository = context.open_policy_repository(args, policy)
    report = coverage(repository, policy, now=context.clock(), start=start)
    if context.out.as_json:
        context.out.json(report.to_dict())
    else:
        _show(report, context)
    return 0


def _show(report: CoverageReport, context: Context) -> None:
    def row(item: Coverage) -> list[str]:
        state = item.state.replace("_", " ")
        return [show_time(item.window.end), state, item.snapshot or "-", show_time(item.captured_at), item.reason]

    if report.windows:
        context.out.lines(table(("window end", "state", "snapshot", "captured", "why"), map(row, report.windows)))
    counts = [f"{count:,} {state.replace('_', ' ')}" for state, count in report.totals.items() if count]
    windows = plural(len(report.windows), "window")
    if not report.windows:
        counts = ["none has ended yet since its start or first snapshot"]
    context.out.summary(["", ", ".join([f"{windows} of {report.policy}", *counts, plural(report.gaps, "gap")])])
