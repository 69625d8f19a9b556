"""Where the policies are. Both the DAG files and the tasks read them here, so a task sees what the page shows."""

from __future__ import annotations

import os
from pathlib import Path

from moraine.errors import ConfigError
from moraine.model.policy import BrokenPolicy, Policy, Schedule, load_policies
from moraine.workflows.notify import failure_notifiers


def policy_folder() -> Path:
    """`MORAINE_POLICIES`, or `include/policies` beside the package."""
    return Path(os.environ.get("MORAINE_POLICIES") or Path(__file__).resolve().parents[2] / "policies")


def read_policies() -> tuple[list[Policy], list[BrokenPolicy]]:
    """All policies, and the files that hold none."""
    policies, broken = load_policies(policy_folder())
    endless = {policy.policy: policy for policy in policies if _is_endless(policy.schedule)}
    usable = [policy for policy in policies if policy.policy not in endless]
    broken += [BrokenPolicy(policy_folder() / f"{name}.yaml", _no_start(name)) for name in endless]
    return [policy for policy in usable if _can_notify(policy, broken)], broken


def _can_notify(policy: Policy, broken: list[BrokenPolicy]) -> bool:
    """Whether its notifiers can be made; found out now, not on the night when one is needed."""
    try:
        failure_notifiers(policy)
    except ConfigError as error:
        broken.append(BrokenPolicy(policy_folder() / f"{policy.policy}.yaml", error))
        return False
    return True


def _is_endless(schedule: Schedule | None) -> bool:
    return bool(schedule and schedule.catchup and schedule.start is None)


def _no_start(name: str) -> ConfigError:
    return ConfigError(
        f"policy {name!r} has schedule.catchup without schedule.start", hint="say which window is the first to catch up"
    )


def find_policy(name: str) -> Policy:
    """One policy by name. Raises ConfigError with the reason, if its file is broken."""
    policies, broken = read_policies()
    for policy in policies:
        if policy.policy == name:
            return policy
    for file in broken:
        if file.path.stem == name:
            raise file.error
    known = ", ".join(policy.policy for policy in policies) or "none"
    raise ConfigError(f"there is no policy {name!r} in {policy_folder()}", hint=f"known: {known}")
