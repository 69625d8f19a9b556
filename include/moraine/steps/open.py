"""open: look before writing, then say in the log that a run begins."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from moraine.engine.coverage import on_time_until
from moraine.errors import CommitRefused
from moraine.model.log import LogState, Session
from moraine.model.policy import Policy
from moraine.model.progress import Progress
from moraine.model.window import Window
from moraine.repository.keys import Entropy
from moraine.repository.repository import Repository
from moraine.sources.base import Source
from moraine.steps.run import Clock, Run, resume_run
from moraine.stores.base import Store

ABANDON_AFTER = timedelta(days=14)


def open_run(
    repository: Repository,
    policy: Policy,
    source: Source,
    *,
    run: str,
    window: Window,
    clock: Clock,
    entropy: Entropy,
    work: Store | None = None,
    host: str = "",
    holder: str = "",
    late: bool = False,
    began: datetime | None = None,
    progress: Progress | None = None,
    validate: Callable[[LogState], object] | None = None,
) -> Run:
    """Open a session for `run`, or take over the one it has open with a higher attempt token.

    Args:
        repository: where the snapshot goes.
        policy: what is protected.
        source: its reader; probed before anything is written.
        run: identity of the logical run; a retry of the same run names the same one.
        window: what the snapshot will stand for.
        clock: the present, aware.
        entropy: random bytes.
        work: where working files go; the repository when None.
        host: where this runs, for people.
        holder: marks the process on that host.
        late: the window was over long before.
        began: when the source was first looked at for this run, if that was before now.
        progress: told what happens.
        validate: sees the log right before the session opens, and raises when the run is not needed any more.

    Raises:
        SourceMissing, SourceUnmounted, SourceDenied: from the probe; nothing was written.
        ClockSkew: the clock is behind the log.
    """
    source.probe()
    now = clock()
    abandon_stale(repository, now - ABANDON_AFTER, clock, policy.policy)
    session_id, began = repository.new_id(now), began or now
    fresh = Session(session_id, run, 1, policy.policy, window, None, began, 0, host=host, holder=holder, late=late)
    opened: list[Session] = []

    def prepare(state: LogState) -> dict[str, object]:
        opened[:] = [_session(state, policy, fresh)]
        repository.ahead(opened[0].parent)
        return {"session": opened[0].to_dict()}

    repository.log.append("open-session", prepare, now=now, validate=validate)
    session = opened[0]
    return resume_run(
        repository,
        policy,
        source,
        session.id,
        session.attempt,
        clock=clock,
        entropy=entropy,
        work=work,
        progress=progress,
    )


def _session(state: LogState, policy: Policy, fresh: Session) -> Session:
    """The session to open: the one that this run has open, under a higher attempt; else `fresh`, with a parent."""
    same = (s for s in state.sessions.values() if s.run == fresh.run and s.policy == fresh.policy)
    before = next(same, None)
    if before:
        # What is listed from here on is of the present: the session must not date it back to its first attempt.
        again = replace(fresh, id=before.id, attempt=before.attempt + 1, parent=before.parent, base=before.base)
        return replace(again, parent=_newest(state, policy)) if policy.destination else again
    parents = state.live(policy.policy)
    # Read from a source's history: compared with what was before it. A mirror has one state, the newest.
    if not fresh.late and fresh.opened_at >= on_time_until(fresh.window) and not policy.destination:
        parents = [record for record in parents if record.window.end <= fresh.window.end] or parents
    parent = max(parents, key=lambda s: (s.window.end, s.captured_at)).id if parents else None
    return replace(fresh, parent=parent, base=state.number)


def stale_sessions(repository: Repository, before: datetime, policy: str | None = None) -> list[str]:
    """Open sessions, of one policy or of all, whose newest attempt began before that time."""
    sessions = repository.state.sessions.values()
    return [s.id for s in sessions if s.opened_at < before and policy in (None, s.policy)]


def abandon_stale(repository: Repository, before: datetime, clock: Clock, policy: str | None = None) -> list[str]:
    """Give such sessions up, in the log: they can neither go on nor commit any more. Their ids."""
    abandoned = []
    for session in stale_sessions(repository, before, policy):

        def validate(state: LogState, session: str = session) -> None:
            found = state.sessions.get(session)
            if found is None or found.opened_at >= before:
                raise CommitRefused(f"session {session} has ended or gone on meanwhile", hint="nothing to do")

        body = {"session": session, "reason": "stale"}
        with suppress(CommitRefused):
            repository.log.append("abandon-session", body, now=clock(), validate=validate)
            abandoned.append(session)
    return abandoned


def _newest(state: LogState, policy: Policy) -> str | None:
    live = state.live(policy.policy)
    return max(live, key=lambda s: (s.window.end, s.captured_at)).id if live else None
