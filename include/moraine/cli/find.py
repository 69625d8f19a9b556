"""`moraine find`: every version of a file, and the snapshots that hold it."""

from __future__ import annotations

import argparse
import os

from moraine.cli.context import Context
from moraine.cli.text import plural, show_time, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's own arguments."""
    parser.add_argument("glob", metavar="GLOB", help="*.csv matches names, docs/**/*.md whole paths")
    parser.add_argument("--snapshot", metavar="SNAPSHOT", action="append", help="only in this one; may be repeated")
    parser.add_argument("--policy", metavar="NAME", help="only in this policy's snapshots")
    parser.add_argument("-i", "--ignore-case", action="store_true", help="upper and lower case are the same")


def run(args: argparse.Namespace, context: Context) -> int:
    """Look a glob up in all live snapshots, newest first."""
    context.begin_aside(args)
    from moraine.model.entry import Kind, display_path
    from moraine.model.units import format_size
    from moraine.report.find import Version, find_versions
    from moraine.report.snapshots import sort_snapshots

    repository = context.open_repository(args)
    if args.snapshot:
        records = [repository.find(name, args.policy) for name in args.snapshot]
    else:
        records = repository.state.live(args.policy)
    newest_first = sort_snapshots(records)[::-1]
    versions = find_versions(repository, newest_first, os.fsencode(args.glob), ignore_case=args.ignore_case)
    if context.out.as_json:
        context.out.json_array(version.to_dict() for version in versions)
        return 0

    def row(version: Version) -> list[str]:
        entry = version.entry
        size = format_size(entry.size) if entry.kind == Kind.FILE else "-"
        others = f" and {len(version.snapshots) - 1:,} older" if len(version.snapshots) > 1 else ""
        name = display_path(entry.path) + "/" * (entry.kind == Kind.DIRECTORY)
        return [size, show_time(entry.modified), version.snapshots[0] + others, name]

    if versions:
        context.out.lines(table(("size", "modified", "in snapshot", "path"), map(row, versions), right=("size",)))
    searched = f"in {plural(len(records), 'snapshot')}"
    context.out.summary(
        ["", f"{plural(len(versions), 'version')} {searched}"] if versions else [f"nothing found {searched}"]
    )
    return 0
