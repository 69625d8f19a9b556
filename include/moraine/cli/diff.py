"""`moraine diff`: what differs between two snapshots."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from moraine.cli.context import Context
from moraine.cli.flags import path_in_snapshot
from moraine.cli.text import plural

if TYPE_CHECKING:
    from moraine.report.compare import Difference

SIGNS = {"added": "+", "removed": "-", "modified": "M", "metadata": "m"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's own arguments."""
    parser.add_argument("old", metavar="A", help="the older snapshot: id, part of it, or latest")
    parser.add_argument("new", metavar="B", help="the newer one")
    parser.add_argument("--path", type=path_in_snapshot, metavar="PATH", help="only below this path")
    parser.add_argument("--policy", metavar="NAME", help="latest of this policy")


def run(args: argparse.Namespace, context: Context) -> int:
    """Print one line per path that differs: + added, - removed, M modified, m metadata only."""
    context.begin_aside(args)
    from moraine.report.compare import compare_manifests

    repository = context.open_repository(args)
    old, new = (repository.manifest(repository.snapshot(name, args.policy)) for name in (args.old, args.new))
    counts: Counter[str] = Counter()
    differences = _counted(compare_manifests(old, new, args.path), counts)
    if context.out.as_json:
        context.out.json_array(difference.to_dict() for difference in differences)
        return 0
    context.out.lines(map(_line, differences))
    context.out.summary(_summary(counts))
    return 0


def _counted(differences: Iterator[Difference], counts: Counter[str]) -> Iterator[Difference]:
    for difference in differences:
        counts[difference.change] += 1
        if difference.change != "metadata":
            counts["more" if difference.bytes > 0 else "less"] += abs(difference.bytes)
        yield difference


def _line(difference: Difference) -> str:
    from moraine.model.entry import Kind, display_path
    from moraine.model.units import format_size

    entry = difference.entry
    name = display_path(entry.path) + "/" * (entry.kind == Kind.DIRECTORY) or "./"
    is_content = entry.kind == Kind.FILE and difference.change != "metadata"
    size = f"{'+' if difference.bytes > 0 else ''}{format_size(difference.bytes)}" if is_content else ""
    return f"{SIGNS[difference.change]} {size:>10}  {name}"


def _summary(counts: Counter[str]) -> list[str]:
    from moraine.model.units import format_size

    found = [f"{counts[change]:,} {change}" for change in SIGNS if counts[change]]
    if not found:
        return ["no differences"]
    total = sum(counts[change] for change in SIGNS)
    sizes = f"+{format_size(counts['more'])}, -{format_size(counts['less'])}"
    return ["", f"{plural(total, 'difference')}: {', '.join(found)} ({sizes})"]
