"""`moraine sweep`: remove what abandoned and finished runs have left."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from moraine.cli.context import Context
from moraine.cli.flags import duration
from moraine.cli.text import plural, table
from moraine.model.units import format_size

if TYPE_CHECKING:
    from moraine.steps.sweep import Leftovers, Swept


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's own arguments."""
    parser.add_argument("-n", "--dry-run", action="store_true", help="only say what would be removed, and why")
    parser.add_argument(
        "--keep", type=duration, default="3d", metavar="TIME", help="leave younger objects alone (default 3d)"
    )
    parser.add_argument(
        "--abandon",
        type=duration,
        default="14d",
        metavar="TIME",
        help="give up open runs that nobody has started again for so long (default 14d)",
    )


def run(args: argparse.Namespace, context: Context) -> int:
    """Sweep and print every session with the reason."""
    context.begin_aside(args)
    from moraine.steps.sweep import sweep

    repository = context.open_repository(args)
    swept = sweep(repository, clock=context.clock, keep_for=args.keep, abandon_after=args.abandon, dry_run=args.dry_run)
    if context.out.as_json:
        context.out.json(asdict(swept))
        return 0
    rows = [_row("remove", left) for left in swept.removed] + [_row("keep", left) for left in swept.kept]
    if rows:
        context.out.lines(
            table(("", "session", "packs", "files", "size", "why"), rows, right=("packs", "files", "size"))
        )
    context.out.summary(["", _summary(swept)])
    return 0


def _row(verdict: str, left: Leftovers) -> list[str]:
    return [verdict, left.session, f"{left.packs:,}", f"{left.files:,}", format_size(left.bytes), left.why]


def _summary(swept: Swept) -> str:
    size = format_size(sum(left.bytes for left in swept.removed))
    given_up = f"; {plural(len(swept.abandoned), 'open run')} given up" if swept.abandoned else ""
    if swept.dry_run:
        return f"{size} would be removed (dry run){given_up}"
    return f"{size} removed{given_up}" + (f"; see {swept.report}" if swept.report else "")
