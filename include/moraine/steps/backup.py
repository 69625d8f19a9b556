"""backup: all steps of one run in one process, for the command line, scripts and tests."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from moraine.model.policy import Policy
from moraine.model.progress import Progress
from moraine.model.record import dataclass
from moraine.model.window import Window
from moraine.repository.keys import Entropy
from moraine.repository.repository import Repository
from moraine.sources.base import Source
from moraine.steps.close import close_run
from moraine.steps.commit import Committed, commit
from moraine.steps.copy import copy_shard
from moraine.steps.diff import diff_entries
from moraine.steps.gate import gate_changes
from moraine.steps.night import Steps, capture
from moraine.steps.open import open_run
from moraine.steps.run import Clock
from moraine.steps.verify import verify_shard
from moraine.stores.base import Store


@dataclass(frozen=True, slots=True)
class Holder:
    """Who runs this: lets the next run tell a dead predecessor from one that is still at work."""

    host: str
    mark: str
    alive: Callable[[str], bool]  # whether the process of a mark still lives on this host


def backup(
    repository: Repository,
    policy: Policy,
    source: Source,
    *,
    clock: Clock,
    entropy: Entropy,
    holder: Holder,
    work: Store,
    progress: Progress | None = None,
    ignore_gate: bool = False,
    began: datetime | None = None,
) -> Committed:
    """One snapshot, from open to close; working files go to `work` (a memory store will do).

    A run that was killed is taken over: what it had stored is used. Two runs at once are safe and both commit.
    Where the source's listing had begun before, the snapshot stands for that time, `began`.

    Raises:
        Every error of the steps.
    """
    run = open_run(
        repository,
        policy,
        source,
        run=cli_run(repository, policy, holder),
        window=cli_window(repository, policy, began or clock()),
        began=began,
        clock=clock,
        entropy=entropy,
        work=work,
        host=holder.host,
        holder=holder.mark,
        progress=progress,
    )
    steps = Steps(diff_entries, gate_changes, copy_shard, verify_shard, commit)
    committed = capture(run, steps, ignore_gate=ignore_gate)
    close_run(repository, run.session.id, clock=clock, work=work)
    return committed


def cli_run(repository: Repository, policy: Policy, holder: Holder) -> str:
    """The open session of a dead process on this host is gone on with; a live one is left alone."""
    own = f"cli/{policy.policy}/{holder.host}/{holder.mark}"
    for session in repository.state.sessions.values():
        mine = session.policy == policy.policy and session.host == holder.host and session.run.startswith("cli/")
        if mine and not holder.alive(session.holder):
            return session.run
    return own


def cli_window(repository: Repository, policy: Policy, now: datetime) -> Window:
    """Without a schedule a snapshot stands for the time since the one before."""
    ends = [record.window.end for record in repository.state.live(policy.policy)]
    return Window(min(max(ends, default=now), now), now)
