"""Snapshots as the command line, the UI and SQL show them; from the log alone, no object is opened."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from moraine.engine.retention import is_proven
from moraine.model.snapshot import SnapshotRecord


def snapshot_dict(record: SnapshotRecord) -> dict[str, Any]:
    """JSON form of one snapshot; times are RFC 3339 in UTC, sizes are bytes."""
    data = record.to_dict()
    return {name: data[name] for name in _FIELDS}


def sort_snapshots(records: Iterable[SnapshotRecord]) -> list[SnapshotRecord]:
    """Oldest window first; of equal windows the one captured first."""
    return sorted(records, key=lambda record: (record.window.end, record.captured_at, record.id))


_FIELDS = (
    "id", "policy", "source", "host", "window", "captured_at", "finished_at", "late", "files", "bytes", "added",
    "stored", "unreadable", "proven", "failed", "held",
)  # fmt: skip


def newest_of_each(records: Iterable[SnapshotRecord], count: int) -> list[SnapshotRecord]:
    """The newest `count` of each policy, in the order given (oldest first)."""
    found = list(records)
    kept = {
        record.id
        for policy in {record.policy for record in found}
        for record in [record for record in found if record.policy == policy][-count:]
    }
    return [record for record in found if record.id in kept]


def remarks(record: SnapshotRecord) -> list[str]:
    """What stands out about a snapshot, in a few words each."""
    found = ["late"] * record.late
    found += ["proven"] if is_proven(record) else ["proof failed"] if record.failed else []
    found += [f"{record.unreadable:,} unreadable"] * bool(record.unreadable)
    return found + [f"held: {record.held}"] * (record.held is not None)
