"""The log's entries and the state they fold to. Pure: no store, no clock.

The state is a function of the entries alone, so two readers of the same log agree on which sessions are open and
which snapshots live. Entry types this version does not know make the state read-only instead of wrong.
"""

from __future__ import annotations

from dataclasses import asdict, field, replace
from datetime import datetime
from typing import Any

from moraine.errors import Fenced, SessionClosed
from moraine.model.record import dataclass
from moraine.model.snapshot import SnapshotRecord
from moraine.model.window import Window, format_time, parse_time

LOG_VERSION = 1


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One thing that happened to a repository."""

    number: int
    type: str
    at: datetime
    previous: str  # blake3 hex of the previous entry's object; empty for the first
    body: dict[str, Any]
    nonce: str  # makes equal entries of two writers different objects

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {**asdict(self), "at": format_time(self.at), "version": LOG_VERSION}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LogEntry:
        """The entry of a JSON form."""
        data = {name: value for name, value in data.items() if name != "version"}
        return cls(**{**data, "at": parse_time(data["at"])})


@dataclass(frozen=True, slots=True)
class Session:
    """One logical run that may write; retries share it under rising attempt tokens."""

    id: str
    run: str
    attempt: int
    policy: str
    window: Window
    parent: str | None
    opened_at: datetime
    base: int  # the log's head when it was opened
    host: str = ""
    holder: str = ""  # host-specific mark of the process, to tell a dead holder from a live one
    late: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {**asdict(self), "window": self.window.to_dict(), "opened_at": format_time(self.opened_at)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Session:
        """The session of a JSON form."""
        return cls(**{**data, "window": Window.from_dict(data["window"]), "opened_at": parse_time(data["opened_at"])})


@dataclass(frozen=True, slots=True)
class SegmentRef:
    """One index segment: level 0 as a session wrote it, else part of the compacted run of that level."""

    key: str
    digest: str
    rows: int
    level: int = 0
    first: str = ""  # first 8 bytes of the lowest and of the highest id, hex; empty: not recorded
    last: str = ""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A snapshot that lives no more, as it was last, and why."""

    record: SnapshotRecord
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"record": self.record.to_dict(), "reason": self.reason}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Forgotten:
        """The snapshot of a JSON form."""
        return cls(SnapshotRecord.from_dict(data["record"]), data["reason"])


@dataclass(slots=True)
class LogState:
    """The repository as of one log entry.

    `forgotten` is what this fold has seen being forgotten since entry `since`, where it began; -1: from the first on.
    Checkpoints do not hold it: every verb would read it, and only coverage asks.
    """

    number: int = -1
    digest: str = ""
    at: datetime | None = None
    sessions: dict[str, Session] = field(default_factory=dict)  # open ones
    snapshots: dict[str, SnapshotRecord] = field(default_factory=dict)  # live ones, in order of commit
    segments: dict[str, SegmentRef] = field(default_factory=dict)
    unknown: str | None = None  # an entry type of a newer version
    forgotten: dict[str, Forgotten] = field(default_factory=dict, compare=False)
    since: int = field(default=-1, compare=False)

    def live(self, policy: str | None = None) -> list[SnapshotRecord]:
        """Live snapshots, oldest commit first, of one policy or of all."""
        return [s for s in self.snapshots.values() if policy is None or s.policy == policy]

    def require_open(self, session: str, attempt: int) -> Session:
        """The open session, unless it is closed or a newer attempt has taken over. Raises SessionClosed, Fenced."""
        found = self.sessions.get(session)
        if found is None:
            raise SessionClosed(
                f"session {session} is not open: it was committed, closed or abandoned",
                hint="clear the run's `open` task and everything after it to start a new session",
                session=session,
            )
        if found.attempt != attempt:
            raise Fenced(
                f"attempt {attempt} of session {session} was taken over by attempt {found.attempt}",
                hint="the newer attempt goes on; nothing is lost",
                session=session,
            )
        return found

    def apply(self, entry: LogEntry, digest: str) -> None:
        """Fold one more entry in."""
        fold = _FOLDS.get(entry.type)
        if fold is None:
            self.unknown = entry.type
        else:
            fold(self, entry)
        self.number, self.digest, self.at = entry.number, digest, entry.at

    def to_dict(self) -> dict[str, Any]:
        """JSON form: the content of a checkpoint."""
        return {
            "version": LOG_VERSION,
            "number": self.number,
            "digest": self.digest,
            "at": format_time(self.at) if self.at else None,
            "sessions": [s.to_dict() for s in self.sessions.values()],
            "snapshots": [s.to_dict() for s in self.snapshots.values()],
            "segments": [asdict(s) for s in self.segments.values()],
            "unknown": self.unknown,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LogState:
        """The state of a checkpoint."""
        return cls(
            number=data["number"],
            since=data["number"],
            digest=data["digest"],
            at=parse_time(data["at"]) if data["at"] else None,
            sessions={s["id"]: Session.from_dict(s) for s in data["sessions"]},
            snapshots={s["id"]: SnapshotRecord.from_dict(s) for s in data["snapshots"]},
            segments={s["key"]: SegmentRef(**s) for s in data["segments"]},
            unknown=data["unknown"],
        )


def _create(state: LogState, entry: LogEntry) -> None:
    del state, entry  # `create` only starts the chain; the configuration stands in moraine.json


def _open(state: LogState, entry: LogEntry) -> None:
    session = Session.from_dict(entry.body["session"])
    state.sessions[session.id] = session


def _end(state: LogState, entry: LogEntry) -> None:
    state.sessions.pop(entry.body["session"], None)


def _commit(state: LogState, entry: LogEntry) -> None:
    record = SnapshotRecord.from_dict(entry.body["snapshot"])
    state.snapshots[record.id] = record
    for segment in entry.body["segments"]:
        state.segments[segment["key"]] = SegmentRef(**segment)
    state.sessions.pop(record.session, None)


def _forget(state: LogState, entry: LogEntry) -> None:
    for item in entry.body["snapshots"]:
        record = state.snapshots.pop(item["id"], None)
        if record:
            state.forgotten[record.id] = Forgotten(record, item["reason"])


def _hold(state: LogState, entry: LogEntry) -> None:
    found = state.snapshots.get(entry.body["snapshot"])
    if found:
        state.snapshots[found.id] = replace(found, held=entry.body["reason"])


def _prove(state: LogState, entry: LogEntry) -> None:
    found = state.snapshots.get(entry.body["snapshot"])
    if found is None:
        return
    if entry.body["passed"]:
        state.snapshots[found.id] = replace(found, proven=entry.at, failed=None)
    else:
        state.snapshots[found.id] = replace(found, failed=entry.at)


def _compaction(state: LogState, entry: LogEntry) -> None:
    for key in entry.body["removed"]:
        state.segments.pop(key, None)
    for segment in entry.body["added"]:
        state.segments[segment["key"]] = SegmentRef(**segment)


def _note(state: LogState, entry: LogEntry) -> None:
    del state, entry  # recorded for people; changes nothing


_FOLDS = {
    "create": _create,
    "open-session": _open,
    "close-session": _end,
    "abandon-session": _end,
    "commit": _commit,
    "forget": _forget,
    "hold": _hold,
    "prove": _prove,
    "compaction": _compaction,
    "key-change": _note,
}
