"""A snapshot: one committed, immutable restore point, and the objects its manifest is made of."""

from __future__ import annotations

import dataclasses
from base64 import b64decode, b64encode
from dataclasses import asdict, field
from datetime import datetime
from typing import Any

from moraine.model.record import dataclass
from moraine.model.window import Window, format_time, parse_time


@dataclass(frozen=True, slots=True)
class ShardRef:
    """One base shard of a manifest: rows from `first` (a row key) up to the next shard's first.

    Delta rows with a sequence above `after` overlay it; `pending` counts them.
    """

    key: str
    digest: str
    rows: int
    first: bytes
    after: int = 0
    pending: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {**asdict(self), "first": b64encode(self.first).decode()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ShardRef:
        """The reference of a JSON form."""
        return cls(**{**data, "first": b64decode(data["first"])})


@dataclass(frozen=True, slots=True)
class DeltaRef:
    """One object of changed rows over the whole path range; later sequences win."""

    key: str
    digest: str
    rows: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts of a snapshot; bytes are logical unless said otherwise."""

    files: int = 0
    directories: int = 0
    others: int = 0
    bytes: int = 0
    changed: int = 0  # rows that differ from the parent snapshot
    removed: int = 0
    added_bytes: int = 0  # content that was not in the repository before
    stored_bytes: int = 0  # what that content takes, compressed and sealed
    racy: int = 0
    vanished: int = 0
    denied: int = 0

    @property
    def unreadable(self) -> int:
        """Entries that are listed but could not be captured."""
        return self.vanished + self.denied


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The full, authenticated description; stored once under `snapshots/`."""

    id: str
    session: str
    run: str
    attempt: int
    policy: str
    policy_digest: str
    source: str  # as a person would write it: kind and root
    host: str
    window: Window
    captured_at: datetime
    finished_at: datetime
    late: bool
    parent: str | None
    totals: Totals
    shards: tuple[ShardRef, ...]
    deltas: tuple[DeltaRef, ...]
    sequence: int  # highest delta sequence used so far
    evidence: tuple[dict[str, Any], ...] = ()
    version: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def rows(self) -> int:
        """Entries of the snapshot, the root included."""
        return self.totals.files + self.totals.directories + self.totals.others

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        data = asdict(self)
        data["window"] = self.window.to_dict()
        data["captured_at"] = format_time(self.captured_at)
        data["finished_at"] = format_time(self.finished_at)
        data["shards"] = [shard.to_dict() for shard in self.shards]
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Snapshot:
        """The snapshot of a JSON form."""
        return cls(
            **{
                **data,
                "window": Window.from_dict(data["window"]),
                "captured_at": parse_time(data["captured_at"]),
                "finished_at": parse_time(data["finished_at"]),
                "totals": Totals(**data["totals"]),
                "shards": tuple(ShardRef.from_dict(shard) for shard in data["shards"]),
                "deltas": tuple(DeltaRef(**delta) for delta in data["deltas"]),
                "evidence": tuple(data["evidence"]),
                "notes": tuple(data["notes"]),
            }
        )


@dataclasses.dataclass(frozen=True, slots=True)  # one for each snapshot there is: quick to make
class SnapshotRecord:
    """What the log remembers of a snapshot: enough to list it without opening it."""

    id: str
    key: str
    digest: str
    session: str
    policy: str
    source: str
    host: str
    window: Window
    captured_at: datetime
    finished_at: datetime
    late: bool
    files: int
    bytes: int
    added: int
    stored: int
    unreadable: int
    proven: datetime | None = None
    failed: datetime | None = None  # the last prove that failed
    held: str | None = None  # the reason of the hold

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        data = asdict(self)
        data["window"] = self.window.to_dict()
        for name in ("captured_at", "finished_at", "proven", "failed"):
            data[name] = format_time(data[name]) if data[name] else None
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SnapshotRecord:
        """The record of a JSON form."""
        data = dict(data)
        data["window"] = Window.from_dict(data["window"])
        for name in ("captured_at", "finished_at", "proven", "failed"):
            data[name] = parse_time(data[name]) if data[name] else None
        return cls(**data)
