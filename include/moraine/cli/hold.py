"""`moraine hold`: snapshots that nothing may forget."""

from __future__ import annotations

import argparse

from moraine.cli.context import Context
from moraine.cli.parser import add_verbs
from moraine.cli.text import show_time, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's own arguments."""
    verbs = add_verbs(
        parser,
        {"add": "put a snapshot on hold", "list": "list snapshots on hold", "remove": "end a snapshot's hold"},
    )
    for name in ("add", "remove"):
        verbs[name].add_argument("snapshot", metavar="SNAPSHOT", help="id, or an unambiguous part of it")
    verbs["add"].add_argument("--reason", default="held by hand", metavar="TEXT", help="why it has to stay")


def run(args: argparse.Namespace, context: Context) -> int:
    """Add, list or remove a hold."""
    from moraine.report.snapshots import snapshot_dict, sort_snapshots
    from moraine.steps.hold import hold, release

    repository = context.open_repository(args)
    if args.action == "list":
        held = [record for record in sort_snapshots(repository.state.live()) if record.held is not None]
        if context.out.as_json:
            context.out.json([snapshot_dict(record) for record in held])
        elif held:
            rows = [[record.id, record.policy, show_time(record.window.end), record.held or ""] for record in held]
            context.out.lines(table(("snapshot", "policy", "window end", "reason"), rows))
        else:
            context.out.summary(["no snapshot is on hold"])
        return 0
    if args.action == "add":
        record = hold(repository, args.snapshot, reason=args.reason, clock=context.clock)
        text = f"snapshot {record.id} of {record.policy} is on hold: {record.held}"
    else:
        record = release(repository, args.snapshot, clock=context.clock)
        text = f"snapshot {record.id} of {record.policy} is not on hold"
    if context.out.as_json:
        context.out.json(snapshot_dict(record))
    else:
        context.out.summary([text])
    return 0
