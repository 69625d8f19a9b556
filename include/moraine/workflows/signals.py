"""What tasks tell a collector of metrics: how long each step took, what was damaged, how the policy stands."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import get_current_context

from moraine.errors import IntegrityError, MoraineError, ProofFailed

if TYPE_CHECKING:
    from datetime import datetime

    from moraine.report.metrics import Sample


def tell_step(step: str, policy: str | None, seconds: float, ended: dict[str, Any] | MoraineError) -> str | None:
    """Send how a step ended; what to say in the log when that did not work."""
    from moraine.report.metrics import damage_samples, phase_samples, store_samples
    from moraine.report.otlp import wanted
    from moraine.workflows.connections import METER
    from moraine.workflows.policies import find_policy

    if not wanted(os.environ):
        return None
    name = policy or get_current_context()["params"].get("policy")
    if name is None:
        return None
    asked = store_samples(METER.take())
    if not isinstance(ended, MoraineError):
        return _send([*phase_samples(name, step, seconds, "ok", ended.get("bytes")), *asked])
    samples = [*phase_samples(name, step, seconds, ended.code), *asked]
    if isinstance(ended, IntegrityError | ProofFailed):
        samples += damage_samples(find_policy(name).repository.url, [ended.code])
    return _send(samples)


def tell_policy(name: str, now: datetime) -> str | None:
    """Send how a policy stands, also after a night that failed; what to say in the log when that did not work."""
    from moraine.report.metrics import policy_samples
    from moraine.report.otlp import wanted
    from moraine.workflows.connections import open_repository
    from moraine.workflows.policies import find_policy

    if not wanted(os.environ):
        return None
    try:
        policy = find_policy(name)
        repository = open_repository(policy.repository)
        repository.log.refresh()
        return _send(policy_samples(repository, policy, now))
    except MoraineError as error:  # whatever is wrong there has failed the run already
        return f"metrics of the policy were not sent: {error.line()}"


def _send(samples: Sequence[Sample]) -> str | None:
    from moraine.report.otlp import send

    return send(samples, os.environ)
