"""Which functions make a night of a policy: those that write into a repository, or those that keep a mirror."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from moraine.model.policy import Policy
from moraine.steps.commit import Committed, commit
from moraine.steps.copy import Copied, copy_shard
from moraine.steps.diff import Diffed, diff_entries
from moraine.steps.gate import Gated, gate_changes
from moraine.steps.mirror_copy import copy_mirror
from moraine.steps.mirror_diff import diff_mirror, gate_mirror
from moraine.steps.mirror_settle import commit_mirror
from moraine.steps.mirror_verify import verify_mirror
from moraine.steps.verify import Verified, verify_shard


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps in which the two differ."""

    diff: Callable[..., Diffed]
    gate: Callable[..., Gated]
    copy: Callable[..., Copied]
    verify: Callable[..., Verified]
    commit: Callable[..., Committed]


def steps_of(policy: Policy) -> Steps:
    """The steps of a policy."""
    if policy.destination:
        return Steps(diff_mirror, gate_mirror, copy_mirror, verify_mirror, commit_mirror)
    return Steps(diff_entries, gate_changes, copy_shard, verify_shard, commit)
