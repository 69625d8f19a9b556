"""Which policies there are, and the one of a name: for the command line and for Airflow alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from moraine.errors import ConfigError
from moraine.model.policy import Policy
from moraine.model.policy_file import BrokenPolicy


def policy_folder(environ: Mapping[str, str]) -> Path:
    """`MORAINE_POLICIES`, or `include/policies` beside the package."""
    return Path(environ.get("MORAINE_POLICIES") or Path(__file__).resolve().parents[2] / "policies")


def choose_policy(name: str, policies: Sequence[Policy], broken: Sequence[BrokenPolicy], folder: Path) -> Policy:
    """One policy by name out of what a folder holds.

    Raises:
        ConfigError: there is none, or its file is broken; then with the reason.
    """
    for policy in policies:
        if policy.policy == name:
            return policy
    for file in broken:
        if file.path.stem == name:
            raise file.error
    known = ", ".join(policy.policy for policy in policies) or "none"
    raise ConfigError(f"there is no policy {name!r} in {folder}", hint=f"name a policy file, or one of: {known}")
