"""Policies: one YAML file each that says what is protected, when, for how long and how it is proven.

The front of several modules: `policy_fields` has the keys and the digest, `policy_sources` the keys of sources,
`policy_drill` those of drills and objectives, `policy_types` the kinds of values, `policy_text` says a policy in
English. Everybody else imports from here; but who reads files, from `policy_file`, which takes a while to load.
"""

from __future__ import annotations

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
from moraine.model.policy_mirror import Mirror, Trash
from moraine.model.policy_sources import Compare, PosixSource, S3Inventory, S3Source
from moraine.model.policy_types import check_name

__all__ = [
    "Application",
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
    "check_name",
]
