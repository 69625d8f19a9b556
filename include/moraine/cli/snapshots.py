"""`moraine snapshots`: what can be restored."""

from __future__ import annotations

import argparse

from moraine.cli.context import Context
from moraine.cli.flags import positive
from moraine.cli.text import plural, show_time, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's own arguments."""
    parser.add_argument("--policy", metavar="NAME", help="only this policy's")
    parser.add_argument("--last", metavar="N", type=positive, help="only the newest N of each policy")


def run(args: argparse.Namespace, context: Context) -> int:
    """List live snapshots, oldest window first."""
    from moraine.model.snapshot import SnapshotRecord
    from moraine.model.units import format_size
    from moraine.report.snapshots import newest_of_each, remarks, snapshot_dict, sort_snapshots

    repository = context.open_repository(args)
    records = sort_snapshots(repository.state.live(args.policy))
    if args.last is not None:
        records = newest_of_each(records, args.last)
    if context.out.as_json:
        context.out.json([snapshot_dict(record) for record in records])
        return 0

    def row(record: SnapshotRecord) -> list[str]:
        sizes = [f"{record.files:,}", format_size(record.bytes), format_size(record.added)]
        return [record.id, record.policy, show_time(record.window.end), *sizes, ", ".join(remarks(record))]

    if records:
        head = ("snapshot", "policy", "window end", "files", "size", "added", "")
        context.out.lines(table(head, map(row, records), right=("files", "size", "added")))
    context.out.summary(["", plural(len(records), "snapshot")] if records else ["no snapshots"])
    return 0
