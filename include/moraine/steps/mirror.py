"""mirror: all steps of one run of a mirror in one process, for the command line, scripts and tests."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from moraine.errors import ConfigError, NotARepository
from moraine.model.policy import Policy
from moraine.model.progress import Progress
from moraine.model.record import dataclass
from moraine.repository.keys import Entropy
from moraine.repository.repository import Repository
from moraine.sources.base import Source
from moraine.sources.mirror import Mirror, MirrorFacts
from moraine.steps.backup import Holder, cli_run, cli_window
from moraine.steps.close import close_run
from moraine.steps.commit import Committed
from moraine.steps.init import init_repository
from moraine.steps.mirror_diff import drift_report
from moraine.steps.mirror_drift import last_seen
from moraine.steps.mirror_verify import retain_any
from moraine.steps.night import capture
from moraine.steps.open import open_run
from moraine.steps.route import steps_of
from moraine.steps.run import Clock
from moraine.stores.base import Store


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What a run did."""

    committed: Committed
    drift: dict[str, Any]  # counts, named
    removed: int  # entries that went to the trash because the source has them not
    only_listed: int  # entries that the tree cannot hold; the inventory does
    notes: dict[str, int]  # attributes and entries the mirror could not take, by code
    named: list[dict[str, str]]
    purged: list[str]
    exit_code: int


def mirror(
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
    processes: int = 1,
) -> Mirrored:
    """One run, from open to close; working files go to `work` (a memory store will do).

    At most so many `processes` copy at once, forked from this one, which is to have no threads then.
    A run that was killed is taken over: what it had brought to the mirror is found there. Of two at once the later one
    is refused. Where the source's listing had begun before, the snapshot stands for that time, `began`.

    Raises:
        Every error of the steps.
    """
    destination = repository.mirror
    assert destination
    repository.log.refresh()
    destination.probe()
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
    run.processes = processes
    committed = capture(run, steps_of(policy), ignore_gate=ignore_gate)
    drift = drift_report(run)
    close_run(repository, run.session.id, clock=clock, work=work)
    purged = retain_any(repository, policy, clock=clock).purged
    seen = last_seen(repository, committed.snapshot)
    assert seen
    return _mirrored(committed, drift, seen, purged)


def _mirrored(committed: Committed, drift: dict[str, Any], seen: dict[str, Any], purged: list[str]) -> Mirrored:
    return Mirrored(
        committed,
        drift,
        seen["removed"],
        seen["only_listed"],
        seen["notes"],
        seen["named"],
        purged,
        committed.exit_code,
    )


def open_state(
    store: Store,
    passphrase: Callable[[], bytes] | None,
    destination: Mirror,
    *,
    clock: Clock,
    entropy: Entropy,
    adopt: bool = False,
    create: bool = True,
) -> Repository:
    """The repository in which a mirror keeps what it knows of itself; made when this is to become one.

    Args:
        store: where it is.
        passphrase: of an encrypted one.
        destination: the mirror.
        clock: the present, aware.
        entropy: random bytes.
        adopt: take over a directory that holds something: what the source has not goes to the trash.
        create: make the directory of a mirror where there is none.

    Raises:
        ConfigError: the directory is no mirror yet, and holds something or is missing.
    """
    facts = destination.probe()
    try:
        repository = Repository.open(store, passphrase or _none, entropy=entropy)
    except NotARepository:
        _require_free(destination, facts, adopt=adopt, create=create)
        repository = init_repository(store, passphrase, clock=clock, entropy=entropy)
    repository.mirror = destination
    return repository


def _require_free(destination: Mirror, facts: MirrorFacts, *, adopt: bool, create: bool) -> None:
    if not facts.exists and not create:
        raise ConfigError(
            f"there is no {destination.url}", hint="make the directory, or mount what holds it; then run again"
        )
    if not facts.empty and not adopt:
        raise ConfigError(
            f"{destination.url} holds something and is no mirror yet",
            hint="choose an empty place; or let `./moraine mirror --adopt` take it over: what the source has not "
            "goes to its trash",
        )


def _none() -> bytes:
    raise ConfigError("the mirror's inventories are sealed", hint="name its passphrase file")
