"""restore of a drill: one part of the plan into the place, within its quota, and how long that took."""

from __future__ import annotations

from typing import Any

from moraine.errors import TargetFull
from moraine.model.progress import NoProgress, Progress
from moraine.model.record import dataclass
from moraine.model.units import format_size
from moraine.model.window import format_time
from moraine.repository.repository import Repository
from moraine.sources.posix_target import PosixTarget
from moraine.sources.target import INCOMPLETE
from moraine.steps.drill_pick import Picked
from moraine.steps.drill_place import DrillPlace, require_room
from moraine.steps.drill_plan import Part, load_part
from moraine.steps.restore import execute_restore
from moraine.steps.restore_plan import RestorePlan, plan_restore
from moraine.steps.run import Clock

_NAMED = 20


@dataclass(frozen=True, slots=True)
class RestoredPart:
    """What came back of one part."""

    number: int
    label: str
    files: int  # of all attempts, as far as they came to an end
    bytes: int
    attempts: list[tuple[str, str]]  # when each began and ended
    seconds: float
    problems: list[str]  # what did not come back, the first few
    lost: int  # entries that did not


def restore_part(
    repository: Repository,
    picked: Picked,
    place: DrillPlace,
    number: int,
    *,
    clock: Clock,
    progress: Progress | None = None,
) -> RestoredPart:
    """Restore one part of the plan; run again it goes on.

    Raises:
        TargetFull: the quota is used up, or the disk is full. Says nothing about the snapshot.
    """
    part = load_part(place, number)
    target = PosixTarget(place.tree)
    plan = select_part(repository, picked, part, target)
    quota = place.load("plan")["quota"]
    require_room(place.base, plan.write_bytes, quota)
    started = clock()
    pace = _begin(place, number, format_time(started))
    bounded = _Bounded(progress or NoProgress(), quota)
    restored = execute_restore(plan, repository, target, owners="keep", progress=bounded)
    ended = clock()
    lost = [note for note in restored.warnings if note["code"] in INCOMPLETE and note["code"] != "not-captured"]
    count = sum(n for code, n in restored.warning_counts.items() if code in INCOMPLETE and code != "not-captured")
    pace["files"] += restored.files
    pace["bytes"] += restored.bytes
    pace["attempts"].append((pace["begun"], format_time(ended)))
    place.save(f"pace-{number}", pace | {"begun": None})
    return RestoredPart(
        number=number,
        label=part["label"],
        **{name: pace[name] for name in ("files", "bytes", "attempts")},
        seconds=(ended - started).total_seconds(),
        problems=[f"{note['path']}: {note['message']}" for note in lost[:_NAMED]],
        lost=count,
    )


def select_part(repository: Repository, picked: Picked, part: Part, target: PosixTarget) -> RestorePlan:
    """The restore of one part, as it stands against what is in the place."""
    snapshot = repository.snapshot(picked.snapshot)
    if "paths" in part:
        return plan_restore(repository, snapshot, target=target, paths=part["paths"])
    return plan_restore(repository, snapshot, target=target, include=part["include"], exclude=part["exclude"])


def _begin(place: DrillPlace, number: int, now: str) -> dict[str, Any]:
    """The pace so far. A killed attempt counts from its beginning, with the wait after it: never too fast."""
    pace: dict[str, Any] = {"files": 0, "bytes": 0, "attempts": [], "begun": None}
    if place.has(f"pace-{number}"):
        pace = place.load(f"pace-{number}")
    pace["begun"] = pace["begun"] or now
    place.save(f"pace-{number}", pace)
    return pace


class _Bounded:
    """Progress that stops a restore which writes more than its quota: a manifest may lie about sizes."""

    def __init__(self, inner: Progress, quota: int) -> None:
        self._inner = inner
        self._quota = self._left = quota

    def start(self, phase: str, files: int | None = None, bytes: int | None = None) -> None:
        """Begin counting."""
        self._inner.start(phase, files, bytes)

    def advance(self, files: int = 0, bytes: int = 0) -> None:
        """Count. Raises TargetFull."""
        self._left -= bytes
        if self._left < 0:
            raise TargetFull(
                f"the drill has restored its quota of {format_size(self._quota)}", hint="raise drill.place.quota"
            )
        self._inner.advance(files, bytes)

    def finish(self, phase: str) -> None:
        """Say what it came to."""
        self._inner.finish(phase)
