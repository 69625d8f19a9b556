"""sweep: remove what sessions that are over have left: working files, and packs that nothing refers to.

Why nothing is removed that somebody needs, whoever is at work meanwhile:

- Only a session can adopt its own packs, and only while the log has it open; a session that has ended never opens
  again. What the log does not know at all is left alone: the log may be an old copy.
- Objects are listed before the log is read. A session opens in the log before it writes, so the log that is read then
  knows all sessions whose objects were seen, and those that are at work as open.
- A snapshot reaches packs through index segments alone, and a segment counts through a log entry. Every segment that
  any entry has ever named is asked, those that compaction has replaced too, so that no reader with an older index loses
  a pack. Commits to come can only name packs of sessions that are open, and places that stand in these segments.

Ages only spare work and give people time; no clock is part of the argument. A report is written before the first
object goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, field
from datetime import datetime, timedelta
from itertools import islice

import pyarrow as pa

from moraine.errors import MissingObject
from moraine.model import compute as pc
from moraine.model.log import LogEntry, SegmentRef
from moraine.model.record import dataclass
from moraine.model.window import format_time
from moraine.repository import layout
from moraine.repository.repository import Repository
from moraine.steps.open import ABANDON_AFTER, abandon_stale, stale_sessions
from moraine.steps.run import Clock

KEEP_FOR = timedelta(days=3)
_ROWS = 1 << 14  # listed at a time
_TIME = pa.timestamp("us", "UTC")
_FOUND = pa.schema(
    [("key", pa.string()), ("size", pa.int64()), ("modified", _TIME), ("session", pa.string()), ("pack", pa.bool_())]
)


@dataclass(slots=True)
class Leftovers:
    """What one session has left, and why it may go or has to stay."""

    session: str
    why: str
    files: int = 0
    packs: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Swept:
    """What was removed (on a dry run: what would be), what stays and why."""

    dry_run: bool
    abandoned: list[str] = field(default_factory=list)
    removed: list[Leftovers] = field(default_factory=list)
    kept: list[Leftovers] = field(default_factory=list)
    report: str | None = None


def sweep(
    repository: Repository,
    *,
    clock: Clock,
    keep_for: timedelta = KEEP_FOR,
    abandon_after: timedelta = ABANDON_AFTER,
    dry_run: bool = False,
) -> Swept:
    """Give up sessions that nobody has gone on with, and remove what sessions that are over have left.

    Args:
        repository: an opened repository.
        clock: the present, aware.
        keep_for: younger objects stay.
        abandon_after: sessions whose newest attempt began longer ago are abandoned, of all policies.
        dry_run: only say what would be done.

    Raises:
        DamagedObject, MissingObject: an index segment that counts cannot be read, so nobody knows what is needed.
        AccessDenied: the store refuses to delete; the report says what was to go.
    """
    result = Swept(dry_run)
    found = _list(repository)
    repository.log.refresh()
    before = clock() - abandon_after
    result.abandoned = stale_sessions(repository, before) if dry_run else abandon_stale(repository, before, clock)
    entries = repository.log.entries()
    ended = _ended(entries) | dict.fromkeys(result.abandoned, "abandoned: stale")
    old = pc.less(found["modified"], pa.scalar(clock() - keep_for, _TIME))
    over = pc.is_in(found["session"], value_set=pa.array(list(ended), pa.string()))
    going = _unreferenced(repository, found, pc.and_(old, over), entries)
    _sum_up(found, going, ended, repository, result)
    doomed = found.filter(going)["key"].to_pylist()
    if doomed and not dry_run:
        result.report = _write_report(repository, result, doomed, clock())
        for key in doomed:
            repository.store.delete(key)
    return result


def _list(repository: Repository) -> pa.Table:
    """All working files and packs, in columns."""
    tables = []
    for prefix in (layout.SESSIONS, layout.PACKS):
        listed = repository.store.list(prefix)
        while infos := list(islice(listed, _ROWS)):
            columns = {
                "key": pa.array([info.key for info in infos], pa.string()),
                "size": pa.array([info.size for info in infos], pa.int64()),
                "modified": pa.array([info.modified for info in infos], _TIME),
                "session": pa.array([info.key.split("/", 2)[1] for info in infos], pa.string()),
                "pack": pa.array([prefix == layout.PACKS] * len(infos), pa.bool_()),
            }
            tables.append(pa.table(columns, _FOUND))
    return pa.concat_tables([_FOUND.empty_table(), *tables])


def _ended(entries: list[LogEntry]) -> dict[str, str]:
    """The sessions that are over, and how they ended."""
    ended = {}
    for entry in entries:
        if entry.type == "commit":
            ended[entry.body["snapshot"]["session"]] = "committed"
        elif entry.type in ("close-session", "abandon-session"):
            reason = entry.body.get("reason")
            word = "closed" if entry.type == "close-session" else "abandoned"
            ended[entry.body["session"]] = f"{word}: {reason}" if reason else word
    return ended


def _unreferenced(
    repository: Repository, found: pa.Table, candidates: pa.ChunkedArray, entries: list[LogEntry]
) -> pa.ChunkedArray:
    """The candidates that no index segment of any time refers to."""
    if not pc.any(pc.and_(candidates, found["pack"])).as_py():
        return candidates
    replaced = {key for entry in entries if entry.type == "compaction" for key in entry.body["removed"]}
    for segment in _segments(entries):
        try:
            table = repository.index.load(segment, ["pack"])
        except MissingObject:
            if segment.key not in replaced:
                raise
            continue
        needed = pc.unique(table["pack"].cast(pa.string()))
        candidates = pc.and_(candidates, pc.invert(pc.is_in(found["key"], value_set=needed)))
    return candidates


def _segments(entries: list[LogEntry]) -> Iterator[SegmentRef]:
    named = {"commit": "segments", "compaction": "added"}
    for entry in entries:
        for described in entry.body[named[entry.type]] if entry.type in named else []:
            yield SegmentRef(**described)


def _sum_up(
    found: pa.Table, going: pa.ChunkedArray, ended: dict[str, str], repository: Repository, result: Swept
) -> None:
    """Sums per session. Of packs that stay only those of sessions that are not over: the others are the repository."""
    groups: dict[tuple[str, bool], Leftovers] = {}
    sums = found.append_column("going", going).group_by(["session", "going", "pack"])
    for row in sums.aggregate([("size", "count"), ("size", "sum")]).sort_by("session").to_pylist():
        session, goes = row["session"], row["going"]
        if row["pack"] and not goes and session in ended:
            continue
        group = groups.setdefault((session, goes), Leftovers(session, _why(session, goes, ended, repository)))
        group.packs += row["size_count"] * row["pack"]
        group.files += row["size_count"] * (not row["pack"])
        group.bytes += row["size_sum"]
    result.removed = [group for (_, goes), group in groups.items() if goes]
    result.kept = [group for (_, goes), group in groups.items() if not goes]


def _why(session: str, goes: bool, ended: dict[str, str], repository: Repository) -> str:
    if session in ended:
        return ended[session] if goes else f"{ended[session]}, but too young"
    opened = repository.state.sessions.get(session)
    return f"open: {opened.policy}, attempt {opened.attempt}" if opened else "unknown to the log"


def _write_report(repository: Repository, result: Swept, keys: list[str], now: datetime) -> str:
    report = {"at": format_time(now), **asdict(result), "keys": keys}
    return repository.save_report(f"sweep/{repository.new_id(now)}.json", report)
