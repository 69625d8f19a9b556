"""pick: which snapshot a drill restores. The seed is kept, so that the same drill can be held again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moraine.errors import SnapshotNotFound
from moraine.model.policy import Policy
from moraine.model.record import dataclass
from moraine.model.snapshot import SnapshotRecord
from moraine.model.window import format_time
from moraine.repository.keys import Entropy
from moraine.repository.repository import Repository
from moraine.steps.run import Clock


@dataclass(frozen=True, slots=True)
class Picked:
    """What a drill is about."""

    drill: str  # its id
    policy: str
    snapshot: str
    window_end: str
    seed: int
    pick: str
    whole: bool
    candidates: int
    started_at: str


def pick_snapshot(
    repository: Repository,
    policy: Policy,
    *,
    clock: Clock,
    entropy: Entropy,
    name: str | None = None,
    seed: int | None = None,
    whole: bool | None = None,
) -> Picked:
    """Pick a snapshot of a policy.

    Args:
        repository: where it is; its log is read anew.
        policy: its `drill` says how to pick.
        clock: the present.
        entropy: random bytes, for the drill's id and, where none is given, its seed.
        name: instead of picking, this one: an id, a part of one, or latest.
        seed: overrules the policy's.
        whole: overrules what the policy says of how much is restored.

    Raises:
        SnapshotNotFound: there is none.
    """
    rules = policy.drill
    now = clock()
    repository.log.refresh()
    candidates = sorted(repository.state.live(policy.policy), key=lambda r: (r.window.end, r.captured_at))
    if not candidates:
        raise SnapshotNotFound(f"policy {policy.policy} has no snapshot to drill", hint="run its backup first")
    given = seed if seed is not None else rules.seed
    chosen_seed = given if given is not None else int.from_bytes(entropy(4), "big")
    pick = rules.pick if name is None else "named"
    record = repository.find(name, policy.policy) if name else _draw(candidates, pick, chosen_seed)
    return Picked(
        drill=repository.new_id(now),
        policy=policy.policy,
        snapshot=record.id,
        window_end=format_time(record.window.end),
        seed=chosen_seed,
        pick=pick,
        whole=rules.restore == "whole" if whole is None else whole,
        candidates=len(candidates),
        started_at=format_time(now),
    )


def _draw(candidates: Sequence[SnapshotRecord], pick: str, seed: int) -> SnapshotRecord:
    """One of the candidates, which come oldest first."""
    rng = np.random.default_rng(seed)
    if pick == "latest":
        return candidates[-1]
    groups = _groups(candidates) if pick == "stratified" else [list(candidates)]
    group = groups[int(rng.integers(len(groups)))]
    return group[int(rng.integers(len(group)))]


def _groups(candidates: Sequence[SnapshotRecord]) -> list[list[SnapshotRecord]]:
    """Thirds by age, each halved by size; so an old or an odd-sized snapshot is not lost among many like each other."""
    third = -(-len(candidates) // 3)
    groups = []
    for start in range(0, len(candidates), third):
        by_size = sorted(candidates[start : start + third], key=lambda record: (record.bytes, record.id))
        half = -(-len(by_size) // 2)
        groups += [by_size[:half], by_size[half:]]
    return [group for group in groups if group]
