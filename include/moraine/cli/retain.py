"""`moraine retain`: forget what a policy's rules no longer keep."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from moraine.cli.context import Context
from moraine.cli.text import plural, show_time, table

if TYPE_CHECKING:
    from moraine.steps.retain import Retained


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's own arguments."""
    parser.add_argument("--policy", required=True, metavar="FILE", help="the policy file whose `keep` applies")
    parser.add_argument("-n", "--dry-run", action="store_true", help="only say what would be forgotten, and why")


def run(args: argparse.Namespace, context: Context) -> int:
    """Apply the rules and print every snapshot with the reasons."""
    from moraine.model.policy_file import load_policy
    from moraine.steps.retain import retain

    policy = load_policy(args.policy)
    repository = context.open_policy_repository(args, policy)
    show_retained(retain(repository, policy, clock=context.clock, dry_run=args.dry_run), context)
    return 0


def show_retained(result: Retained, context: Context) -> None:
    """Print what stays and what goes."""
    if context.out.as_json:
        context.out.json(asdict(result))
        return
    from moraine.model.units import format_size
    from moraine.model.window import parse_time

    def row(item: dict[str, Any], verdict: str) -> tuple[str, list[str]]:
        end = show_time(parse_time(item["window_end"]))
        reasons = ", ".join(item["reasons"])
        return item["window_end"], [verdict, item["snapshot"], end, format_size(item["bytes"]), reasons]

    rows = [row(item, "keep") for item in result.kept] + [row(item, "forget") for item in result.forgotten]
    lines = [cells for _, cells in sorted(rows, key=lambda item: item[0], reverse=True)]
    if lines:
        context.out.lines(table(("", "snapshot", "window end", "size", "why"), lines, right=("size",)))
    going = "would be forgotten (dry run)" if result.dry_run else "forgotten"
    kept = f"{plural(len(result.kept), 'snapshot')} of {result.policy} kept"
    context.out.summary(["", f"{kept}, {len(result.forgotten):,} {going}"])
