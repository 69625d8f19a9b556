"""`moraine ls`: what a snapshot holds."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
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
    context.begin_aside(args)
    from moraine.report.columns import join_paths
    from moraine.report.listing import NAMES, list_entries, list_names, list_rows

    repository = context.open_repository(args)
    manifest = repository.manifest(repository.snapshot(args.snapshot, args.policy))
    under, recursive = args.path or b"", args.recursive or args.path is None
    if context.out.as_json:
        context.out.json_array(entry.to_dict() for entry in list_entries(manifest, under, recursive=recursive))
    elif args.null:
        for table in list_rows(manifest, NAMES, under, recursive=recursive):
            context.out.bytes(b"".join(path + b"\0" for path in join_paths(table).to_pylist()))
    elif args.long:
        context.out.lines(_long_lines(list_entries(manifest, under, recursive=recursive)))
    else:
        for names in list_names(manifest, under, recursive=recursive):
            context.out.line("\n".join(names))
    return 0


def _long_lines(entries: Iterable[Entry]) -> Iterator[str]:
    """Lines of `ls -l`; the columns have fixed widths, because the list is not known when it starts."""
    from moraine.model.entry import Kind, State, display_path
    from moraine.model.units import format_size
    from moraine.report.entries import KIND_NAMES, STATE_NAMES

    for entry in entries:
        owner = f"{entry.owner or entry.uid}:{entry.group or entry.gid}"
        size = format_size(entry.size) if entry.kind == Kind.FILE else "-"
        name = display_path(entry.path) + "/" * (entry.kind == Kind.DIRECTORY)
        if entry.target is not None:
            name += f" -> {display_path(entry.target)}"
        if entry.state != State.OK:
            name += f"  [{STATE_NAMES[entry.state]}]"
        mode = show_mode(KIND_NAMES[entry.kind], entry.mode)
        yield f"{mode}  {pad(owner, 15)}  {size:>10}  {show_time(entry.modified)}  {name}"
