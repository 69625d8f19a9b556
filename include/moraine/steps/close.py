"""close: the last step, always run; tidies up after a commit and leaves everything in place for a retry otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime

from moraine.errors import AccessDenied, CommitRefused
from moraine.model.log import LogState
from moraine.model.record import dataclass
from moraine.repository import layout
from moraine.repository.index_segments import compact, compactable
from moraine.repository.repository import Repository
from moraine.repository.work import WorkFiles
from moraine.stores.base import Store


@dataclass(frozen=True, slots=True)
class Closed:
    """How the run ended."""

    snapshot: str | None  # None: nothing was committed, the session stays open for a retry
    compacted: int = 0
    notes: tuple[str, ...] = ()


def close_run(
    repository: Repository, session_id: str, *, clock: Callable[[], datetime], work: Store | None = None
) -> Closed:
    """Drop the working files of a committed session and compact the index where it is due.

    Raises nothing of its own for a session that did not commit: its files stay, so that a cleared task can go on.
    """
    found = _snapshot_of(repository.state, session_id) or _snapshot_of(repository.log.refresh(), session_id)
    if found is None:
        return Closed(None)
    notes: list[str] = []
    try:
        for store in [repository.store, *([work] if work else [])]:  # parts of large files are always in the first
            WorkFiles(store, repository.keyring, session_id, repository.entropy).clear()
    except AccessDenied as error:
        notes.append(f"working files stay, the store refuses to delete them: {error}")
    return Closed(found, compact_index(repository, now=clock()), tuple(notes))


def _snapshot_of(state: LogState, session_id: str) -> str | None:
    return next((s.id for s in state.snapshots.values() if s.session == session_id), None)


def compact_index(repository: Repository, *, now: datetime) -> int:
    """Merge index segments when there are many; how many were merged. The old objects stay until they are pruned."""
    merged = compactable(list(repository.state.segments.values()))
    if not merged:
        return 0
    keys = [segment.key for segment in merged]
    added = compact(
        repository.index,
        merged,
        make_key=lambda: layout.segment(repository.new_id(now)),
        store=repository.store,
        keyring=repository.keyring,
    )

    def validate(state: LogState) -> None:
        if not state.segments.keys() >= set(keys):
            raise CommitRefused("another run has compacted the index meanwhile", hint="nothing to do")

    try:
        body = {"removed": keys, "added": [asdict(segment) for segment in added]}
        repository.log.append("compaction", body, now=now, validate=validate)
    except CommitRefused:
        return 0
    return len(merged)
