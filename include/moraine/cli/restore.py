"""`moraine restore`: bring a snapshot, or part of it, back to a directory or a bucket."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from moraine.cli.context import Context
from moraine.cli.progress import make_progress
from moraine.cli.text import pairs, plural

if TYPE_CHECKING:
    from moraine.repository.repository import Repository
    from moraine.steps.restore import Restored
    from moraine.steps.restore_plan import RestorePlan

_SHOWN_NOTES = 10
_FATES = {
    "nothing": "already there",
    "keep": "kept as they are",
    "conflict": "in conflict",
    "absent": "not in the snapshot",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's own arguments."""
    add = parser.add_argument
    add("snapshot", metavar="SNAPSHOT", help="id, part of it, or latest")
    add("--to", required=True, metavar="PLACE", help="a directory or s3://bucket/prefix; the tree stands right in it")
    add("--to-endpoint-url", metavar="URL", help="the S3 server of PLACE (default: as --endpoint-url)")
    add("--to-region", metavar="NAME", help="the region of PLACE (default: as --region)")
    add("--storage-class", metavar="NAME", help="in a bucket: of the objects that are written")
    add("--directory-markers", action="store_true", help="in a bucket: an empty object `name/` for each directory")
    add("--path", action="append", default=[], metavar="GLOB", help="only docs, docs/*.md or *.csv; may be repeated")
    add("--exclude", action="append", default=[], metavar="GLOB", help="but not this; may be repeated")
    add("--policy", metavar="NAME", help="latest of this policy")
    add(
        "--overwrite",
        nargs="?",
        const="always",
        default="if-changed",
        choices=("always", "if-changed", "if-newer", "never"),
        help="which entries that are there already are overwritten (default: if-changed)",
    )
    add("--delete", action="store_true", help="remove what PLACE has and the snapshot has not")
    add("-n", "--dry-run", action="store_true", help="only say what would be done")
    add("--owners", choices=("id", "name", "keep"), default="id", help="by number (default), by name, or as you are")
    add("--verify", action="store_true", help="read every file again afterwards and compare it")


def run(args: argparse.Namespace, context: Context) -> int:
    """Plan, and execute unless it is a dry run; 3 when not all is as in the snapshot, 50 when content is lost."""
    context.begin_aside(args)
    from moraine.steps.restore import execute_restore
    from moraine.steps.restore_plan import plan_restore
    from moraine.steps.target import open_target

    repository = context.open_repository(args)
    snapshot = repository.snapshot(args.snapshot, args.policy)
    target = open_target(
        args.to,
        repository,
        snapshot,
        environ=context.environ,
        endpoint_url=args.to_endpoint_url or args.endpoint_url,
        region=args.to_region or args.region,
        delete=args.delete,
        markers=args.directory_markers,
        storage_class=args.storage_class,
    )
    plan = plan_restore(
        repository,
        snapshot,
        target=target,
        include=[os.fsencode(glob) for glob in args.path],
        exclude=[os.fsencode(glob) for glob in args.exclude],
        overwrite=args.overwrite,
        delete=args.delete,
    )
    if args.dry_run:
        _show_plan(plan, repository, context)
        return 0
    if not plan.enough_space:
        context.out.note("the target seems to have less room than is needed; trying all the same")
    progress = make_progress(context.out)
    restored = execute_restore(
        plan,
        repository,
        target,
        owners=args.owners,
        verify=args.verify,
        progress=progress,
        processes=context.cores(),
    )
    _show(restored, snapshot.policy, context)
    return restored.exit_code


def _show_plan(plan: RestorePlan, repository: Repository, context: Context) -> None:
    if context.out.as_json:
        rows = list(_planned_rows(plan, repository)) if context.out.verbose else None
        context.out.json(plan.to_dict() | {"dry_run": True} | ({"entries": rows} if rows is not None else {}))
        return
    from moraine.model.entry import display_path, join_path
    from moraine.model.units import format_size

    for row in _planned_rows(plan, repository):
        if row["action"] != "nothing" or context.out.verbose:
            context.out.line(f"{row['action']:<9}  {row['path']}")
    for extra in plan.extras:
        context.out.line(f"{'delete':<9}  {display_path(join_path(extra.dir, extra.name))}")
    parts = [f"{count:,} {_FATES.get(action, f'to {action}')}" for action, count in plan.counts.items() if count]
    room = f", {format_size(plan.free)} free" if plan.free is not None else ""
    size = f"{plural(plan.write_files, 'file')} with {format_size(plan.write_bytes)} to write{room}"
    context.out.summary(["", f"dry run: {', '.join(parts) or 'nothing to do'}; {size}"])


def _planned_rows(plan: RestorePlan, repository: Repository) -> Iterator[dict[str, Any]]:
    from moraine.model.entry import join_path
    from moraine.report.entries import KIND_NAMES, path_fields

    for table in plan.rows(repository):
        for row in table.to_pylist():
            path = path_fields("path", join_path(row["dir"], row["name"]) or b".")
            yield path | {
                "kind": KIND_NAMES[row["kind"]],
                "size": row["size"],
                "action": row["action"],
                "reason": row["reason"],
            }


def _show(restored: Restored, policy: str, context: Context) -> None:
    if context.out.as_json:
        context.out.json(asdict(restored))
        return
    from moraine.model.units import format_size

    rows = [
        ("restored", f"snapshot {restored.snapshot} of {policy} to {restored.target}"),
        ("written", f"{plural(restored.files, 'file')} with {format_size(restored.bytes)}"),
    ]
    made = [
        plural(restored.directories, "directory", "directories") if restored.directories else "",
        plural(restored.links, "hard link") if restored.links else "",
        f"{restored.others:,} symlinks or special files" if restored.others else "",
    ]
    if any(made):
        rows.append(("made", ", ".join(filter(None, made))))
    for name, count in (
        ("refreshed", restored.refreshed),
        ("deleted", restored.deleted),
        ("compared", restored.verified),
    ):
        if count:
            rows.append((name, plural(count, "entry", "entries")))
    context.out.summary(pairs(rows))
    _warn(restored, context)


def _warn(restored: Restored, context: Context) -> None:
    """Warnings go to stderr, the first of each code by name."""
    from collections import Counter

    seen: Counter[str] = Counter()
    for note in restored.warnings:
        seen[note["code"]] += 1
        if seen[note["code"]] <= _SHOWN_NOTES:
            context.out.warn(f"{note['code']}: {note['path'] or 'target'}: {note['message']}")
    for code, count in restored.warning_counts.items():
        if count > _SHOWN_NOTES:
            context.out.warn(f"{code}: {count - _SHOWN_NOTES:,} more")
