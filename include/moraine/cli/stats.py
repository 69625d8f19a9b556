"""`moraine stats`: sizes, deduplication and compression."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from moraine.cli.context import Context
from moraine.cli.text import pairs, plural, show_ratio, show_time, table

if TYPE_CHECKING:
    from moraine.report.stats import Stats


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's own arguments: none."""


def run(args: argparse.Namespace, context: Context) -> int:
    """Measure the repository and print it."""
    context.begin_aside(args)
    from moraine.model.units import format_size
    from moraine.report.stats import repository_stats

    stats = repository_stats(context.open_repository(args))
    if context.out.as_json:
        context.out.json(stats.to_dict())
        return 0
    stored = stats.pack_bytes + stats.other_bytes
    context.out.lines(
        pairs(
            [
                ("repository", f"{stats.repository} ({'encrypted' if stats.encrypted else 'plain, not encrypted'})"),
                ("snapshots", f"{stats.snapshots:,} with {plural(stats.files, 'file')}"),
                ("logical", f"{format_size(stats.logical_bytes)} in the files of all snapshots"),
                ("unique", f"{format_size(stats.unique_bytes)} in {plural(stats.chunks, 'chunk')}"),
                ("stored", f"{format_size(stored)}: {_parts(stats.packs, stats.pack_bytes, stats.other_bytes)}"),
                ("deduplication", show_ratio(stats.dedup_ratio)),
                ("compression", show_ratio(stats.compression_ratio)),
                ("together", show_ratio(stats.total_ratio)),
            ]
        )
    )
    if stats.policies:
        context.out.line()
        context.out.lines(_policies(stats))
    return 0


def _policies(stats: Stats) -> Iterator[str]:
    from moraine.model.units import format_size
    from moraine.model.window import parse_time

    head = ("policy", "snapshots", "newest window end", "files", "size", "last proven")
    rows = [
        [
            policy.policy,
            f"{policy.snapshots:,}",
            show_time(parse_time(policy.last_window_end)),
            f"{policy.newest_files:,}",
            format_size(policy.newest_bytes),
            show_time(parse_time(policy.proven)) if policy.proven else "never",
        ]
        for policy in stats.policies
    ]
    return table(head, rows, right=("snapshots", "files", "size"))


def _parts(packs: int, pack_bytes: int, other_bytes: int) -> str:
    from moraine.model.units import format_size

    return (
        f"{format_size(pack_bytes)} in {plural(packs, 'pack')}, {format_size(other_bytes)} of manifests, index and log"
    )
