"""`moraine forget`: forget snapshots by name, or by rules given as flags."""

from __future__ import annotations

import argparse
from datetime import timedelta

from moraine.cli.context import Context
from moraine.cli.flags import count, duration, timezone
from moraine.cli.retain import show_retained
from moraine.cli.text import plural, show_time, table
from moraine.errors import ConfigError
from moraine.model.record import dataclass

_RULES = ("last", "hourly", "daily", "weekly", "monthly", "yearly")


@dataclass(frozen=True, slots=True)
class Rules:
    """Keep rules as flags give them."""

    last: int | None
    hourly: int | None
    daily: int | None
    weekly: int | None
    monthly: int | None
    yearly: int | None
    within: timedelta | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's own arguments."""
    parser.add_argument("snapshots", nargs="*", metavar="SNAPSHOT", help="ids, or unambiguous parts of them")
    parser.add_argument("--policy", metavar="NAME", help="apply the --keep rules to this policy's snapshots")
    for rule in _RULES:
        parser.add_argument(f"--keep-{rule}", dest=rule, type=count, metavar="N")
    parser.add_argument("--keep-within", dest="within", type=duration, metavar="DURATION", help="such as 14d")
    parser.add_argument(
        "--timezone",
        type=timezone,
        default="UTC",
        metavar="NAME",
        help="in which days and weeks are counted (default UTC)",
    )
    parser.add_argument("-n", "--dry-run", action="store_true", help="only say what would be forgotten, and why")


def run(args: argparse.Namespace, context: Context) -> int:
    """Forget the named snapshots, or those of --policy that no rule keeps; data stays until it is pruned."""
    rules = Rules(**{rule: getattr(args, rule) for rule in (*_RULES, "within")})
    if bool(args.snapshots) == bool(args.policy):
        raise ConfigError("name snapshots, or a policy and --keep rules", hint="`moraine snapshots` lists both")
    if args.snapshots and rules != Rules(None, None, None, None, None, None, None):
        raise ConfigError("--keep rules need --policy NAME", hint="or name snapshots without any rule")
    if args.policy:
        return _by_rules(args, context, rules)
    return _by_name(args, context)


def _by_rules(args: argparse.Namespace, context: Context, rules: Rules) -> int:
    from moraine.steps.retain import retain_by

    repository = context.open_repository(args)
    names = sorted({record.policy for record in repository.state.live()})
    if args.policy not in names:
        raise ConfigError(f"no snapshot is of policy {args.policy!r}", hint=f"there are: {', '.join(names) or 'none'}")
    result = retain_by(
        repository, args.policy, rules, timezone=args.timezone, clock=context.clock, dry_run=args.dry_run
    )
    show_retained(result, context)
    return 0


def _by_name(args: argparse.Namespace, context: Context) -> int:
    from moraine.report.snapshots import snapshot_dict
    from moraine.steps.retain import forget

    if "latest" in args.snapshots:
        raise ConfigError(
            "`latest` is not forgotten by that name", hint="name it by its id, so that it is surely meant"
        )
    repository = context.open_repository(args)
    records = forget(repository, args.snapshots, clock=context.clock, dry_run=args.dry_run)
    if context.out.as_json:
        context.out.json({"dry_run": args.dry_run, "forgotten": [snapshot_dict(record) for record in records]})
        return 0
    context.out.lines(
        table(("snapshot", "policy", "window end"), [[r.id, r.policy, show_time(r.window.end)] for r in records])
    )
    going = "would be forgotten (dry run)" if args.dry_run else "forgotten"
    context.out.summary(["", f"{plural(len(records), 'snapshot')} {going}"])
    return 0
