"""Policies: one YAML file each that says what is protected, when, for how long and how it is proven.

The front of several modules: `policy_fields` has the keys and the digest, `policy_sources` the keys of sources,
`policy_drill` those of drills and objectives, `policy_types` the kinds of values, `policy_file` reads files and
explains mistakes in them, `policy_text` says a policy in English. Everybody else imports from here.
"""

from __future__ import annotations

from typing import Any

from moraine.model.policy_checks import Check
from moraine.model.policy_drill import Application, Credentials, Drill, Objectives, Place, Sample
from moraine.model.policy_fields import (
    Compression,
    Gate,
    Keep,
    Limits,
    Notify,
    Policy,
    Prove,
    RepositoryAddress,
    Schedule,
    Shards,
    Verify,
)
from moraine.model.policy_file import BrokenPolicy, load_policies, load_policy, parse_policy, validate_policy
from moraine.model.policy_mirror import Mirror, Trash
from moraine.model.policy_sources import Compare, PosixSource, S3Inventory, S3Source

__all__ = [
    "Application",
    "BrokenPolicy",
    "Check",
    "Compare",
    "Compression",
    "Credentials",
    "Drill",
    "Gate",
    "Keep",
    "Limits",
    "Mirror",
    "Notify",
    "Objectives",
    "Place",
    "Policy",
    "PosixSource",
    "Prove",
    "RepositoryAddress",
    "S3Inventory",
    "S3Source",
    "Sample",
    "Schedule",
    "Shards",
    "Trash",
    "Verify",
    "load_policies",
    "load_policy",
    "parse_policy",
    "policy_schema",
    "validate_policy",
]


def policy_schema() -> dict[str, Any]:
    """JSON schema of policy files, for editors; exported to `include/policies/schema.json`."""
    schema = Policy.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Moraine policy"}
