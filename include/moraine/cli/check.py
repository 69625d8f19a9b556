"""`moraine check`: is everything there that restores need, and is it what was written?"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from moraine.cli.context import Context
from moraine.cli.flags import percent
from moraine.cli.progress import make_progress
from moraine.cli.text import plural
from moraine.model.units import format_share, format_size

if TYPE_CHECKING:
    from moraine.steps.check import Checked

_SHOWN = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's own arguments."""
    parser.add_argument(
        "--read-data",
        nargs="?",
        const=1.0,
        default=0.0,
        type=percent,
        metavar="PERCENT",
        help="read packs back and hash every byte: all, or a share that changes by the day (--read-data=5)",
    )


def run(args: argparse.Namespace, context: Context) -> int:
    """Check and print what is wrong and what it costs; 50 when anything is."""
    context.begin_aside(args)
    from moraine.cli.metrics import tell_damage
    from moraine.steps.check import check_repository

    repository = context.open_repository(args)
    progress = make_progress(context.out)
    if repository.mirror:
        from moraine.steps.mirror_check import check_mirror

        checked = check_mirror(repository, read_data=args.read_data, clock=context.clock, progress=progress)
    else:
        checked = check_repository(
            repository,
            read_data=args.read_data,
            clock=context.clock,
            readers=max(context.cores(), 2),  # one reads while the other deciphers
            progress=progress,
        )
    tell_damage(context, repository, [problem["code"] for problem in checked.problems])
    if context.out.as_json:
        context.out.json(asdict(checked) | {"ok": not checked.problems})
        return checked.exit_code
    for problem in checked.problems:
        context.out.lines(_lines(problem))
    for note in checked.notes:
        context.out.note(f"note: {note['message']}")
    context.out.summary([_summary(checked)])
    return checked.exit_code


def _lines(problem: dict[str, Any]) -> list[str]:
    """One problem: what is damaged, then what is lost by it."""
    where = "" if not problem["object"] or problem["object"] in problem["message"] else f"{problem['object']} "
    lines = [f"{problem['code']}: {where}{problem['message']}"]
    if problem["snapshots"]:
        lines.append(f"  costs {plural(len(problem['snapshots']), 'snapshot')}: {_few(problem['snapshots'])}")
    if problem["files"]:
        lines.append(f"  {plural(problem['files'], 'file')} lost: {_few(problem['paths'], problem['files'])}")
    return lines


def _few(names: list[str], count: int | None = None) -> str:
    left = (count or len(names)) - len(names[:_SHOWN])
    return ", ".join(names[:_SHOWN]) + (f" and {left:,} more" if left > 0 else "")


def _summary(checked: Checked) -> str:
    counts = checked.counts
    if "mirror_entries" in counts:
        read = f"{counts.get('files_read', 0):,} files read and hashed"
        well = "all is well" if not checked.problems else f"{plural(len(checked.problems), 'problem')} found"
        return f"{well}: {counts['mirror_entries']:,} entries of the mirror compared, {read}"
    size = format_size(counts.get("pack_bytes", 0))
    seen = [
        plural(counts.get("snapshots", 0), "snapshot"),
        f"{counts.get('manifest_rows', 0):,} manifest rows",
        f"{plural(counts.get('packs', 0), 'pack')} with {size}",
    ]
    if checked.read_data:
        read = f"{counts.get('packs_read', 0):,} of them read ({format_share(checked.read_data)} asked for)"
        seen.append(f"{read}, {counts.get('chunks_read', 0):,} chunks hashed")
    else:
        seen.append("none of them read: --read-data does that")
    if checked.problems:
        return f"\n{plural(len(checked.problems), 'problem')} found in {', '.join(seen)}"
    return f"all is well: {', '.join(seen)}"
