"""A run: what all steps of one session share, and how a later task gets hold of it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from datetime import datetime
from typing import TYPE_CHECKING

from moraine.model.log import Session
from moraine.model.policy import Policy
from moraine.model.progress import NoProgress, Progress
from moraine.model.record import dataclass
from moraine.repository.keys import Entropy
from moraine.repository.repository import Repository
from moraine.repository.work import WorkFiles
from moraine.sources.base import Source
from moraine.stores.base import Store

if TYPE_CHECKING:
    from moraine.sources.mirror import Mirror

Clock = Callable[[], datetime]


@dataclass(slots=True)
class Run:
    """One attempt of one session."""

    repository: Repository
    policy: Policy
    source: Source
    session: Session
    work: WorkFiles
    clock: Clock
    entropy: Entropy
    progress: Progress = field(default_factory=NoProgress)
    processes: int = 1  # that may copy at once, forked from one; or, in one of them, that do

    @property
    def mirror(self) -> Mirror | None:
        """Where the policy's destination is one."""
        return self.repository.mirror

    def unique(self, name: str) -> str:
        """A name for a working file that no other attempt uses."""
        return f"{name}-{self.repository.new_id(self.clock())}"


def resume_run(
    repository: Repository,
    policy: Policy,
    source: Source,
    session_id: str,
    attempt: int,
    *,
    clock: Clock,
    entropy: Entropy,
    work: Store | None = None,
    progress: Progress | None = None,
    committed: bool = False,
) -> Run:
    """The run of an open session.

    Args:
        repository: an opened repository.
        policy: the policy of the run.
        source: its reader.
        session_id: from `open`.
        attempt: from `open`.
        clock: the present, aware.
        entropy: random bytes.
        work: where its working files are; the repository when None.
        progress: told what happens.
        committed: a session that has been committed will do too: for `commit`, which then answers as the first time.

    Raises:
        SessionClosed: it was committed, closed or abandoned.
        Fenced: a newer attempt has taken over.
    """
    record = next((s for s in repository.state.snapshots.values() if s.session == session_id), None)
    if committed and record:
        session = Session(session_id, "", attempt, record.policy, record.window, None, record.captured_at, 0)
    else:
        session = repository.state.require_open(session_id, attempt)
    files = WorkFiles(work or repository.store, repository.keyring, session.id, entropy)
    # What has a history is read as of the window's end, by every task of the run alike.
    past = source.as_of(session.window.end)
    return Run(repository, policy, past, session, files, clock, entropy, progress or NoProgress())
