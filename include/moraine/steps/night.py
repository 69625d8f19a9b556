"""The steps of a night in their order; a repository and a mirror differ in some of them."""

from __future__ import annotations

from collections.abc import Callable

from moraine.model.record import dataclass
from moraine.steps.commit import Committed
from moraine.steps.copy import Copied
from moraine.steps.diff import Diffed
from moraine.steps.gate import Gated
from moraine.steps.list import list_entries
from moraine.steps.run import Run
from moraine.steps.shards import copy_shards
from moraine.steps.verify import Verified


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps in which the two differ."""

    diff: Callable[..., Diffed]
    gate: Callable[..., Gated]
    copy: Callable[..., Copied]
    verify: Callable[..., Verified]
    commit: Callable[..., Committed]


def capture(run: Run, steps: Steps, *, ignore_gate: bool = False) -> Committed:
    """From the listing to the commit, in one process. Raises every error of the steps."""
    diffed = steps.diff(run, [list_entries(run, shard) for shard in run.source.shards(run.policy.shards.list)])
    if not ignore_gate:
        steps.gate(run, diffed)
    copied = copy_shards(run, steps.copy, diffed)
    evidence = [steps.verify(run, part.outcome).evidence for part in copied]
    return steps.commit(run, diffed, [part.outcome for part in copied], evidence)
