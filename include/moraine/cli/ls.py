"""`moraine ls`: what a snapshot holds."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from moraine.cli.context import Context
from moraine.cli.flags import path_in_snapshot
from moraine.cli.text import pad, show_mode, show_time

if TYPE_CHECKING:
    from moraine.report.entries import Entry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's own arguments."""
    parser.add_argument(
        "snapshot", nargs="?", default="latest", metavar="SNAPSHOT", help="id, part of it, or latest (default)"
    )
    parser.add_argument(
        "path",
        nargs="?",
        type=path_in_snapshot,
        metavar="PATH",
        help="a directory: list what is in it; default: the whole snapshot",
    )
    parser.add_argument("-R", "--recursive", action="store_true", help="everything below PATH")
    parser.add_argument("-l", "--long", action="store_true", help="mode, owner, size and time too")
    parser.add_argument("-0", "--null", action="store_true", help="exact names, each ended by a NUL byte")
    parser.add_argument("--policy", metavar="NAME", help="latest of this policy")


def run(args: argparse.Namespace, context: Context) -> int:
    """List entries; everything when no PATH is given, else the directory's own content."""
    from moraine.model.entry import Kind, display_path
    from moraine.report.listing import list_entries

    repository = context.open_repository(args)
    manifest = repository.manifest(repository.snapshot(args.snapshot, args.policy))
    entries = list_entries(manifest, args.path or b"", recursive=args.recursive or args.path is None)
    if context.out.as_json:
        context.out.json_array(entry.to_dict() for entry in entries)
    elif args.null:
        for entry in entries:
            context.out.bytes(entry.path + b"\0")
    elif args.long:
        context.out.lines(map(long_line, entries))
    else:
        context.out.lines(display_path(entry.path) + "/" * (entry.kind == Kind.DIRECTORY) for entry in entries)
    return 0


def long_line(entry: Entry) -> str:
    """One line of `ls -l`; the columns have fixed widths, because the list is not known when it starts."""
    from moraine.model.entry import Kind, State, display_path
    from moraine.model.units import format_size
    from moraine.report.entries import kind_name

    owner = f"{entry.owner or entry.uid}:{entry.group or entry.gid}"
    size = format_size(entry.size) if entry.kind == Kind.FILE else "-"
    name = display_path(entry.path) + "/" * (entry.kind == Kind.DIRECTORY)
    if entry.target is not None:
        name += f" -> {display_path(entry.target)}"
    if entry.state != State.OK:
        name += f"  [{State(entry.state).name.lower()}]"
    mode = show_mode(kind_name(entry.kind), entry.mode)
    return f"{mode}  {pad(owner, 15)}  {size:>10}  {show_time(entry.modified)}  {name}"
