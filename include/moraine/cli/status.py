"""`moraine status`: how policies stand against their objectives; for people, and for a monitor outside of Airflow."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from moraine.cli.context import Context
from moraine.cli.text import table
from moraine.errors import MoraineError, ObjectiveMissed

if TYPE_CHECKING:
    from moraine.model.policy import Policy

MISSED = ObjectiveMissed.exit_code


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's own arguments."""
    parser.add_argument(
        "policy", metavar="POLICY", nargs="*", help="policy files, or names in include/policies (default: all there)"
    )
    parser.add_argument(
        "--exit-code", action="store_true", help=f"exit with {MISSED} when an objective is not met, or nobody can tell"
    )


def run(args: argparse.Namespace, context: Context) -> int:
    """A line for each policy; a repository that cannot be read is one too, and no reason to leave out the others."""
    named = [context.find_policy(name) for name in args.policy]
    policies, broken = (named, []) if named else context.all_policies()
    found = [_standing(policy, args, context) for policy in policies]
    found += [_unknown(file.path.stem, file.error) for file in broken]
    if context.out.as_json:
        context.out.json(found)
    else:
        context.out.lines(table(("policy", "objectives", "newest", "proven", "age", "rpo", "why"), map(_row, found)))
    return MISSED if args.exit_code and not all(item["met"] for item in found) else 0


def _standing(policy: Policy, args: argparse.Namespace, context: Context) -> dict[str, Any]:
    from moraine.report.status import standing, to_dict

    try:
        return to_dict(standing(context.open_policy_repository(args, policy), policy, now=context.clock()))
    except MoraineError as error:
        return _unknown(policy.policy, error)


def _unknown(name: str, error: MoraineError) -> dict[str, Any]:
    nothing = dict.fromkeys(("rpo", "rto", "snapshots", "newest", "proven", "age", "forecast"))
    return {"policy": name, "met": False, **nothing, "misses": [], "error": error.to_dict()}


def _row(found: dict[str, Any]) -> list[str]:
    from datetime import timedelta

    from moraine.model.units import format_duration

    def short(seconds: float | None) -> str:
        step = 60 if seconds is None or seconds < 2 * 86400 else 3600
        return "-" if seconds is None else format_duration(timedelta(seconds=seconds // step * step))

    def when(record: dict[str, str] | None) -> str:
        return record["point"][:16].replace("T", " ") if record else "-"

    promised = found["rpo"] is not None or found["rto"] is not None
    state = "unknown" if found["error"] else "MISSED" if not found["met"] else "met" if promised else "none"
    reasons = [found["error"]["message"]] if found["error"] else [miss["reason"] for miss in found["misses"]]
    age, rpo = short(found["age"]), short(found["rpo"])
    return [found["policy"], state, when(found["newest"]), when(found["proven"]), age, rpo, "; ".join(reasons)]
