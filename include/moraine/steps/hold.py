"""Hold and release: exempt a snapshot from forget, for a stated reason."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from moraine.errors import ConfigError, SnapshotNotFound
from moraine.model.log import LogState
from moraine.model.snapshot import SnapshotRecord
from moraine.repository.repository import Repository

Clock = Callable[[], datetime]


def hold(repository: Repository, name: str, *, reason: str, clock: Clock) -> SnapshotRecord:
    """Put a snapshot on hold, or give its hold another reason. Raises SnapshotNotFound, ConfigError."""
    if not reason.strip():
        raise ConfigError("a hold needs a reason", hint="say in a few words why the snapshot has to stay")
    return _write(repository, name, reason.strip(), clock)


def release(repository: Repository, name: str, *, clock: Clock) -> SnapshotRecord:
    """End the hold on a snapshot; one that has none stays as it is. Raises SnapshotNotFound."""
    repository.log.refresh()
    record = repository.find(name)
    return record if record.held is None else _write(repository, record.id, None, clock)


def _write(repository: Repository, name: str, reason: str | None, clock: Clock) -> SnapshotRecord:
    repository.log.refresh()
    snapshot = repository.find(name).id

    def validate(state: LogState) -> None:
        if snapshot not in state.snapshots:
            raise SnapshotNotFound(
                f"snapshot {snapshot} was forgotten meanwhile", hint="`moraine snapshots` lists the others"
            )

    repository.log.append("hold", {"snapshot": snapshot, "reason": reason}, now=clock(), validate=validate)
    return repository.find(snapshot)
