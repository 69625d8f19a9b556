"""Which functions make a night of a policy: those that write into a repository, or those that keep a mirror."""

from __future__ import annotations

from moraine.model.policy import Policy
from moraine.steps.commit import commit
from moraine.steps.copy import copy_shard
from moraine.steps.diff import diff_entries
from moraine.steps.gate import gate_changes
from moraine.steps.mirror_copy import copy_mirror
from moraine.steps.mirror_diff import diff_mirror, gate_mirror
from moraine.steps.mirror_settle import commit_mirror
from moraine.steps.mirror_verify import verify_mirror
from moraine.steps.night import Steps
from moraine.steps.verify import verify_shard


def steps_of(policy: Policy) -> Steps:
    """The steps of a policy."""
    if policy.destination:
        return Steps(diff_mirror, gate_mirror, copy_mirror, verify_mirror, commit_mirror)
    return Steps(diff_entries, gate_changes, copy_shard, verify_shard, commit)
