"""The policies that can run here: read by the DAG files and the tasks alike, so a task sees what the page shows."""

from __future__ import annotations

import os

from moraine.errors import ConfigError
from moraine.model.policy import Policy
from moraine.model.policy_file import BrokenPolicy, load_policies
from moraine.steps.policies import choose_policy, policy_folder
from moraine.workflows.notify import failure_notifiers


def read_policies() -> tuple[list[Policy], list[BrokenPolicy]]:
    """All policies, and the files that hold none."""
    policies, broken = load_policies(policy_folder(os.environ))
    return [policy for policy in policies if _can_notify(policy, broken)], broken


def _can_notify(policy: Policy, broken: list[BrokenPolicy]) -> bool:
    """Whether its notifiers can be made; found out now, not on the night when one is needed."""
    try:
        failure_notifiers(policy)
    except ConfigError as error:
        broken.append(BrokenPolicy(policy_folder(os.environ) / f"{policy.policy}.yaml", error))
        return False
    return True


def find_policy(name: str) -> Policy:
    """One policy by name. Raises ConfigError with the reason, if its file is broken."""
    policies, broken = read_policies()
    return choose_policy(name, policies, broken, policy_folder(os.environ))
