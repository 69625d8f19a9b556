"""watch: what is new about a policy's objectives, so that people hear of every gap once, of its growing, of its end.

What has been told stands in the repository (`reports/alerts/<policy>/`), not in a scheduler's memory: a document for
each gap and level, made only once. It is written after the telling, so a crash in between tells a gap twice rather
than never.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from enum import StrEnum

from moraine.engine.objectives import Miss, Objective, Standing
from moraine.errors import ObjectExists
from moraine.model.record import dataclass
from moraine.model.window import format_time
from moraine.repository import layout
from moraine.repository.repository import Repository


class Level(StrEnum):
    """What is told of a gap."""

    OPEN = "open"
    ESCALATED = "escalated"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing to tell."""

    policy: str
    gap: str
    objective: Objective
    level: Level
    text: str


@dataclass(slots=True)
class _Gap:
    name: str
    levels: set[str]


def watch(repository: Repository, standing: Standing, tell: Callable[[Alert], None], *, now: datetime) -> list[Alert]:
    """Tell what is new since the last look; what was told.

    Args:
        repository: where the policy's snapshots are, and what was told before.
        standing: how the policy stands now.
        tell: called for each alert; what it raises is raised, and the alert is due again at the next look.
        now: the present.
    """
    told = []
    misses = {miss.objective: miss for miss in standing.misses}
    for objective in Objective:
        gaps = _gaps(repository, standing.policy, objective)
        for alert in _due(standing, objective, misses.get(objective), gaps):
            tell(alert)
            _keep(repository, alert, now)
            told.append(alert)
    return told


def _due(standing: Standing, objective: Objective, miss: Miss | None, gaps: list[_Gap]) -> list[Alert]:
    current = gaps[-1] if gaps and Level.CLOSED not in gaps[-1].levels else None
    if miss is None:
        if current is None:
            return []
        text = f"{standing.policy}: the objective ({objective}) is met again"
        return [Alert(standing.policy, current.name, objective, Level.CLOSED, text)]
    name = current.name if current else f"{objective}/{len(gaps) + 1:06d}"
    level = Level.ESCALATED if miss.grave else Level.OPEN  # what is grave from the start is told once
    if current and (level == Level.OPEN or level in current.levels):
        return []
    return [Alert(standing.policy, name, objective, level, f"{standing.policy}: {miss.reason}")]


def _gaps(repository: Repository, policy: str, objective: Objective) -> list[_Gap]:
    """The gaps that were ever told of, oldest first."""
    gaps: dict[str, _Gap] = {}
    for info in repository.store.list(layout.report(f"alerts/{policy}/{objective}/")):
        number, level, _ = info.key.rpartition("/")[2].split(".")
        name = f"{objective}/{number}"
        gaps.setdefault(name, _Gap(name, set())).levels.add(level)
    return [gaps[name] for name in sorted(gaps)]


def _keep(repository: Repository, alert: Alert, now: datetime) -> None:
    content = {"policy": alert.policy, "level": alert.level, "at": format_time(now), "text": alert.text}
    with suppress(ObjectExists):  # another look at the same moment told it too
        repository.save_report(f"alerts/{alert.policy}/{alert.gap}.{alert.level}.json", content)
