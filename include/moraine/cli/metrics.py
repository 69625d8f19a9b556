"""Metrics of a verb: sent when it is over, if a collector of OpenTelemetry is named in the environment."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from moraine.cli.context import Context
from moraine.report.otlp import send, wanted

if TYPE_CHECKING:
    from moraine.model.policy import Policy
    from moraine.report.metrics import Sample
    from moraine.repository.repository import Repository


def tell_backup(context: Context, repository: Repository, policy: Policy, seconds: float) -> None:
    """Send how long it took, and how the policy stands now."""
    if wanted(context.environ):
        from moraine.report.metrics import phase_samples, policy_samples, store_samples

        took = phase_samples(policy.policy, "backup", seconds, "ok")
        asked = store_samples(context.meter.take()) if context.meter else []
        _send(context, [*took, *asked, *policy_samples(repository, policy, context.clock())])


def tell_damage(context: Context, repository: Repository, kinds: Iterable[str]) -> None:
    """Send what was found damaged."""
    if wanted(context.environ):
        from moraine.report.metrics import damage_samples

        _send(context, damage_samples(repository.store.url, kinds))


def _send(context: Context, samples: list[Sample]) -> None:
    said = send(samples, context.environ)
    if said:
        context.out.warn(said)
