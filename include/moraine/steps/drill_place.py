"""The isolated place of a drill: a directory of its own, marked before it is made and removed whatever happened.

Beside the directory `drill-<id>` lies the marker `drill-<id>.json`, which is written before it and removed after it:
so whatever a killed drill left can be told, by whom and until when, and the next drill removes it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from moraine.errors import ConfigError, RestoreError, TargetFull
from moraine.model.ids import ULID, ulid_time
from moraine.model.policy import Policy
from moraine.model.record import dataclass
from moraine.model.units import format_size
from moraine.model.window import format_time, parse_time
from moraine.repository.repository import Repository
from moraine.steps.drill_run import end_application
from moraine.steps.scratch import remove_tree

_PREFIX = "drill-"
_UNMARKED = timedelta(days=1)  # what becomes of a marker that cannot be read

Ended = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class DrillPlace:
    """The directory of one drill under `base`."""

    base: Path
    drill: str

    @property
    def root(self) -> Path:
        """All of it."""
        return self.base / f"{_PREFIX}{self.drill}"

    @property
    def tree(self) -> Path:
        """What was restored."""
        return self.root / "tree"

    @property
    def scratch(self) -> Path:
        """What checks write."""
        return self.root / "scratch"

    @property
    def docs(self) -> Path:
        """Pages that checks leave."""
        return self.root / "docs"

    @property
    def marker(self) -> Path:
        """Says whose it is, and until when."""
        return self.base / f"{_PREFIX}{self.drill}.json"

    def make(self, *, owner: str, policy: str, now: datetime, expires: timedelta) -> None:
        """Mark and make it; a second time it stays as it is. Raises RestoreError."""
        content = {
            "drill": self.drill,
            "owner": owner,
            "policy": policy,
            "made_at": format_time(now),
            "expires_at": format_time(now + expires),
        }
        try:
            self.base.mkdir(parents=True, exist_ok=True)
            if not self.marker.exists():
                self.marker.write_text(json.dumps(content) + "\n")
            self.root.mkdir(mode=0o700, exist_ok=True)
            for part in (self.scratch, self.docs, self.tree):
                part.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise _unusable(self.base, error) from error

    def save(self, name: str, content: Any) -> None:
        """Leave a document for a later task."""
        try:
            partial = self.root / f"{name}.part"
            partial.write_text(json.dumps(content))
            partial.rename(self.root / f"{name}.json")
        except OSError as error:
            raise _unusable(self.root, error) from error

    def has(self, name: str) -> bool:
        """Whether a document is there."""
        return (self.root / f"{name}.json").exists()

    def load(self, name: str) -> Any:
        """A document of an earlier task. Raises RestoreError when it is not there."""
        try:
            return json.loads((self.root / f"{name}.json").read_text())
        except (OSError, ValueError) as error:
            raise RestoreError(
                f"the drill's {name} is not in {self.root}",
                hint="all workers of a drill must see its place; clear the drill's `plan` task",
            ) from error

    def remove(self) -> bool:
        """Kill what the application left running, remove everything, the marker last; whether there was anything."""
        there = self.root.exists() or self.marker.exists()
        if self.root.exists():
            end_application(self.tree)
            remove_tree(self.root)
        self.marker.unlink(missing_ok=True)
        return there


def base_of(policy: Policy, default: Path) -> Path:
    """Where a policy's drills have their places."""
    path = policy.drill.place.path
    return Path(path) if path else default / "moraine-drills"


def require_apart(base: Path, policy: Policy, repository: Repository) -> None:
    """Refuse a place that has anything to do with the source or the repository. Raises ConfigError."""
    places = {"the source": policy.source.path} if policy.source.kind == "posix" else {}
    url = repository.store.url.removeprefix("file://")
    if "://" not in url and os.path.isabs(url):
        places["the repository"] = url
    inner = os.path.realpath(base)
    for what, path in places.items():
        outer = os.path.realpath(path)
        common = os.path.commonpath([inner, outer])
        if common in (inner, outer):
            relation = "is" if inner == outer else "lies inside" if common == outer else "holds"
            raise ConfigError(
                f"the place of the drill, {base}, {relation} {what} {path}",
                hint="set drill.place.path to a directory that has nothing to do with either",
            )


def require_room(base: Path, needed: int, quota: int) -> None:
    """Refuse what the quota or the disk cannot take. Raises TargetFull."""
    if needed > quota:
        raise TargetFull(
            f"the drill would restore {format_size(needed)}, its quota is {format_size(quota)}",
            hint="restore a sample, or raise drill.place.quota",
        )
    free = free_bytes(base)
    if needed > free:
        raise TargetFull(
            f"the drill would restore {format_size(needed)}, {base} has {format_size(free)} free",
            hint="choose another drill.place.path, or restore a smaller sample",
        )


def free_bytes(base: Path) -> int:
    """What is free on the place's disk. Raises RestoreError."""
    try:
        room = os.statvfs(base)
    except OSError as error:
        raise _unusable(base, error) from error
    return room.f_bavail * room.f_frsize


def sweep(base: Path, *, now: datetime, ended: Ended) -> list[str]:
    """Remove what dead drills left: what has expired, and what belongs to an owner that has `ended`; their ids."""
    swept = []
    for marker in sorted(base.glob(f"{_PREFIX}*.json")) if base.is_dir() else []:
        drill = marker.name[len(_PREFIX) : -len(".json")]
        if ULID.match(drill) and _is_over(marker, drill, now, ended):
            DrillPlace(base, drill).remove()
            swept.append(drill)
    return swept


def _is_over(marker: Path, drill: str, now: datetime, ended: Ended) -> bool:
    try:
        content = json.loads(marker.read_text())
        expires, owner = parse_time(content["expires_at"]), str(content["owner"])
    except (OSError, ValueError, KeyError, TypeError):
        return now > ulid_time(drill) + _UNMARKED
    return now > expires or ended(owner)


def _unusable(path: Path, error: OSError) -> RestoreError:
    import errno

    kind = TargetFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else RestoreError
    return kind(
        f"the drill's place {path} cannot be used: {error.strerror}",
        hint="set drill.place.path to a directory with room that this user may write to",
    )
