"""What is measured: every metric with its unit, labels and meaning, and where its values come from.

`TABLE` is the one list of them; docs/METRICS.md prints it. Labels are few and bounded: policies, repositories, steps,
error codes; never a file, a snapshot or a run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal, NamedTuple

from moraine.engine.coverage import State
from moraine.model.policy import Policy
from moraine.model.record import dataclass
from moraine.report.coverage import coverage
from moraine.repository.repository import Repository


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table."""

    kind: Literal["gauge", "counter", "histogram"]
    unit: str
    labels: tuple[str, ...]
    meaning: str
    bounds: tuple[float, ...] = ()  # of a histogram's buckets


TABLE: dict[str, Metric] = {
    "moraine.rpo.age": Metric(
        "gauge", "s", ("policy",), "time since the end of the newest window that a snapshot stands for"
    ),
    "moraine.window.gap": Metric(
        "gauge", "{window}", ("policy",), "windows of the schedule that are over and have no snapshot"
    ),
    "moraine.snapshot.logical": Metric(
        "gauge", "By", ("policy", "repository"), "size of the files in the newest snapshot"
    ),
    "moraine.snapshot.added": Metric(
        "gauge", "By", ("policy", "repository"), "of these, content that the repository did not have before"
    ),
    "moraine.snapshot.stored": Metric(
        "gauge", "By", ("policy", "repository"), "what that content takes, compressed and sealed"
    ),
    "moraine.snapshot.unreadable": Metric(
        "gauge", "{entry}", ("policy", "repository"), "entries the newest snapshot lacks, as they could not be read"
    ),
    "moraine.run.duration": Metric(
        "histogram",
        "s",
        ("policy", "phase", "outcome"),
        "time that a step took; `outcome` is `ok` or the code of the error it ended with",
        (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600),
    ),
    "moraine.run.throughput": Metric(
        "histogram",
        "By/s",
        ("policy", "phase"),
        "bytes that `copy` read, `verify` read back or `execute` restored, by the time it took",
        tuple(float(1 << power) for power in range(20, 35, 2)),
    ),
    "moraine.store.requests": Metric(
        "counter", "{request}", ("store", "operation"), "requests to a store in S3, tries again among them"
    ),
    "moraine.store.errors": Metric(
        "counter",
        "{request}",
        ("store", "operation", "code"),
        "of these, those that failed: `store-unavailable` is throttling and outages",
    ),
    "moraine.store.bytes": Metric(
        "counter", "By", ("store", "operation"), "content that was sent (`put`) and received (`get`)"
    ),
    "moraine.integrity.bad": Metric(
        "counter", "{finding}", ("repository", "kind"), "damage that was found; any value above zero is an incident"
    ),
}


_MOVES = ("copy", "verify", "execute")


class Sample(NamedTuple):
    """A value of one metric."""

    name: str
    value: float
    labels: dict[str, str]


def policy_samples(repository: Repository, policy: Policy, now: datetime) -> list[Sample]:
    """How a policy stands: what is true at this moment, also after a night that failed."""
    live = repository.state.live(policy.policy)
    samples = []
    if policy.schedule and policy.schedule.cron:
        missed = coverage(repository, policy, now=now).totals[State.MISSED]
        samples.append(Sample("moraine.window.gap", missed, {"policy": policy.policy}))
    if not live:
        return samples
    newest = max(live, key=lambda record: record.window.end)
    age = max(0.0, (now - newest.window.end).total_seconds())
    labels = {"policy": policy.policy, "repository": repository.store.url}
    sizes = {"logical": newest.bytes, "added": newest.added, "stored": newest.stored, "unreadable": newest.unreadable}
    facts = [Sample(f"moraine.snapshot.{name}", value, labels) for name, value in sizes.items()]
    return [*samples, Sample("moraine.rpo.age", age, {"policy": policy.policy}), *facts]


def phase_samples(policy: str, phase: str, seconds: float, outcome: str, size: int | None = None) -> list[Sample]:
    """How long a step took, and how fast it was where it moved bytes."""
    labels = {"policy": policy, "phase": phase}
    samples = [Sample("moraine.run.duration", seconds, {**labels, "outcome": outcome})]
    if phase in _MOVES and size and seconds > 0:
        samples.append(Sample("moraine.run.throughput", size / seconds, labels))
    return samples


def store_samples(counted: Mapping[tuple[str, ...], int]) -> list[Sample]:
    """What stores were asked, as a meter has counted it."""
    return [
        Sample(f"moraine.store.{what}", count, dict(zip(("store", "operation", "code"), labels, strict=False)))
        for (what, *labels), count in counted.items()
        if count
    ]


def damage_samples(repository: str, kinds: Iterable[str]) -> list[Sample]:
    """What was found damaged, by the codes of the findings."""
    counts = Counter(kinds)
    return [
        Sample("moraine.integrity.bad", count, {"repository": repository, "kind": kind})
        for kind, count in counts.items()
    ]
