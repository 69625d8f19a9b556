"""400 simulated nights with a fake clock: gaps, late runs, backfills, both changes of the clock, and a leap day.

What stands in the log after each night is compared with an independent little model: it finds the schedule's instants
by looking at the wall clock minute by minute instead of reading cron, counts nights instead of stretches of time, and
groups snapshots for retention by the text of their dates. It shares no code with the engine.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from moraine.engine.coverage import Standing, stand
from moraine.engine.windows import first_instant
from moraine.model.policy import Policy
from moraine.model.window import Window
from moraine.report.coverage import coverage
from moraine.repository.repository import Repository
from moraine.sources.posix import PosixSource
from moraine.steps.backup import Holder, backup
from moraine.steps.commit import commit
from moraine.steps.copy import copy_shard
from moraine.steps.diff import diff_entries
from moraine.steps.hold import hold
from moraine.steps.list import list_entries
from moraine.steps.open import open_run
from moraine.steps.retain import forget, retain
from moraine.steps.verify import verify_shard
from moraine.stores.memory import MemoryStore
from night import Clock, make_policy

NIGHTS = 400
FIRST_DAY = date(2027, 9, 1)  # so that 29 February 2028 and three changes of the clock lie in the 400 nights
INSTANT = timedelta(microseconds=1)


def wall_clock_instants(wall: str, zone: ZoneInfo, count: int) -> list[datetime]:
    """When a clock on the wall shows `wall`: the second time if it does so twice, an hour on if never."""
    found = []
    for number in range(count):
        day = FIRST_DAY + timedelta(days=number)
        noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
        minutes = [noon + timedelta(minutes=m) for m in range(-1440, 1440)]
        skipped = f"{int(wall[:2]) + 1:02}{wall[2:]}"
        shown = {f"{m.astimezone(zone):%Y-%m-%d %H:%M}": m for m in minutes}
        found.append(shown.get(f"{day} {wall}") or shown[f"{day} {skipped}"])
    return found


@dataclass
class Shot:
    """A snapshot as the model knows it; `nights` is what it stands for, each late or not."""

    name: str
    at: datetime
    end: datetime
    nights: dict[int, bool]
    late_run: bool = False
    alive: bool = True
    held: bool = False
    proven: bool = False


@dataclass
class Model:
    """Nights by number; night n ends at instants[n + 1]."""

    instants: list[datetime]
    zone: ZoneInfo
    shots: list[Shot] = field(default_factory=list)

    def ends(self, night: int) -> datetime:
        return self.instants[night + 1]

    def late(self, night: int, at: datetime) -> bool:
        return at - self.ends(night) >= self.instants[night + 1] - self.instants[night]

    def living(self) -> list[Shot]:
        return [shot for shot in self.shots if shot.alive]

    def needs_run(self, night: int, at: datetime) -> bool:
        late = self.late(night, at)
        return not any(night in shot.nights and (late or shot.late_run) for shot in self.living())

    def nights_up_to(self, at: datetime, after: datetime | None) -> dict[int, bool]:
        numbers = range(len(self.instants) - 1)
        return {n: self.late(n, at) for n in numbers if self.ends(n) <= at and (after is None or self.ends(n) > after)}

    def scheduled(self, name: str, night: int, at: datetime) -> None:
        if not self.late(night, at):
            self.shots.append(Shot(name, at, self.ends(night), {night: False}))
            return
        earlier = [shot.end for shot in self.living() if shot.end <= self.instants[night]]
        nights = self.nights_up_to(at, max(earlier, default=None))
        self.shots.append(Shot(name, at, at, nights, late_run=True))

    def by_hand(self, name: str, at: datetime) -> None:
        last = max((shot.end for shot in self.living()), default=at)
        self.shots.append(Shot(name, at, at, self.nights_up_to(at, last)))

    def retain(self) -> None:
        newest = sorted(self.living(), key=lambda shot: (shot.end, shot.at))
        kept = {shot.name for shot in newest[-2:]} | {shot.name for shot in newest if shot.held}
        kept |= {[shot.name for shot in newest if shot.proven][-1]} if any(s.proven for s in newest) else set()
        for form, count in (("%Y-%m-%d", 7), ("%G week %V", 4), ("%Y-%m", 5)):
            latest = {f"{(shot.end - INSTANT).astimezone(self.zone):{form}}": shot.name for shot in newest}
            kept |= {latest[key] for key in sorted(latest)[-count:]}
        for shot in newest:
            shot.alive = shot.name in kept

    def expected(self, now: datetime) -> list[tuple[datetime, str, str | None]]:
        return [self.night(n, now) for n in range(len(self.instants) - 1) if self.instants[n] <= now]

    def night(self, night: int, now: datetime) -> tuple[datetime, str, str | None]:
        end = self.ends(night)
        if end > now:
            return end, "expected", None
        shots = sorted((s for s in self.shots if night in s.nights), key=lambda s: (not s.alive, s.nights[night], s.at))
        if not shots:
            return end, "missed", None
        best = shots[0]
        if not best.alive:
            return end, "expired", best.name
        return end, "held" if best.held else "late" if best.nights[night] else "on_time", best.name


class World:
    """The real log, the real rules, and the model beside them."""

    def __init__(self, folder: Path, wall: str, zone: str, seed: int) -> None:
        self.random = random.Random(seed)
        self.clock = Clock(datetime(2027, 8, 31, tzinfo=UTC))
        self.repository = Repository.create(MemoryStore(), passphrase=None, now=self.clock(), entropy=os.urandom)
        self.folder = folder
        (folder / "file").write_text("content")
        hour, minute = wall.split(":")
        self.policy: Policy = make_policy(
            folder,
            schedule={"cron": f"{int(minute)} {int(hour)} * * *", "timezone": zone, "start": FIRST_DAY},
            keep={"last": 2, "daily": 7, "weekly": 4, "monthly": 5},
        )
        self.model = Model(wall_clock_instants(wall, ZoneInfo(zone), NIGHTS + 2), ZoneInfo(zone))
        self.states: set[str] = set()

    def run(self, night: int, at: datetime) -> int:
        """A scheduled or backfilled run, as the DAG's `open` and `commit` do it; how many snapshots it made."""
        self.clock.now = at
        live, first = self.repository.state.live("test"), first_instant(self.policy.schedule)
        found = stand(Window(self.model.instants[night], self.model.ends(night)), at, live, first=first)
        assert (found.covered_by is None) == self.model.needs_run(night, at)
        assert found.late == self.model.late(night, at)
        if found.covered_by:
            return 0
        name = self.capture(found, f"night {night} at {at}")
        self.model.scheduled(name, night, at)
        self.tidy()
        return 1

    def capture(self, found: Standing, run: str) -> str:
        """Every step of a run, for real."""
        source, at = PosixSource(str(self.folder)), self.clock.now
        opened = open_run(
            self.repository,
            self.policy,
            source,
            run=run,
            window=found.window,
            late=found.late,
            clock=lambda: at,
            entropy=os.urandom,
            work=MemoryStore(),
        )
        diffed = diff_entries(opened, [list_entries(opened, shard) for shard in source.shards(1)])
        copied = [copy_shard(opened, diffed.changes, shard.number) for shard in diffed.shards]
        evidence = [verify_shard(opened, part.outcome).evidence for part in copied]
        return commit(opened, diffed, [part.outcome for part in copied], evidence).snapshot

    def by_hand(self, at: datetime) -> None:
        """A whole real backup by the command line."""
        self.clock.now = at
        committed = backup(
            self.repository,
            self.policy,
            PosixSource(str(self.folder)),
            clock=lambda: at,
            entropy=os.urandom,
            holder=Holder("host", "mark", lambda mark: False),
            work=MemoryStore(),
        )
        self.model.by_hand(committed.snapshot, at)
        self.tidy()

    def tidy(self) -> None:
        """Now and then a proof or a hold, and always the rules."""
        chance, shot = self.random.random(), self.random.choice(self.model.living())
        if chance < 0.1:
            body = {"snapshot": shot.name, "report": "r", "passed": True}
            self.repository.log.append("prove", body, now=self.clock.now)
            shot.proven = True
        elif chance < 0.13:
            hold(self.repository, shot.name, reason="asked for", clock=lambda: self.clock.now)
            shot.held = True
        elif chance < 0.16 and not shot.held:
            forget(self.repository, [shot.name], clock=lambda: self.clock.now)
            shot.alive = False
        retain(self.repository, self.policy, clock=lambda: self.clock.now)
        self.model.retain()

    def compare(self, now: datetime) -> None:
        assert set(self.repository.state.snapshots) == {shot.name for shot in self.model.living()}
        report = coverage(self.repository, self.policy, now=now)
        found = [(item.window.end, str(item.state), item.snapshot) for item in report.windows]
        assert found == self.model.expected(now)
        self.states |= {state for _, state, _ in found}


def live_through(world: World) -> Iterator[int]:
    """The nights that end with Airflow up: a run, maybe a late one, a backfill or a backup by hand."""
    night, dice = 0, world.random
    while night < NIGHTS:
        end, length = world.model.ends(night), world.model.ends(night) - world.model.instants[night]
        chance = dice.random()
        if chance < 0.06:  # Airflow is down for some nights, then all of them are backfilled
            down = range(night, min(night + dice.randrange(1, 7), NIGHTS))
            at = world.model.ends(down[-1]) + timedelta(minutes=dice.randrange(1, 1300))
            made = [world.run(number, at + timedelta(minutes=n)) for n, number in enumerate(down)]
            assert sum(made) == 1 or len(down) == 1
            night = down[-1]
        elif chance < 0.10:  # the same, the newest first
            down = range(night, min(night + dice.randrange(1, 5), NIGHTS))
            at = world.model.ends(down[-1]) + timedelta(minutes=dice.randrange(1, 1300))
            made = [world.run(number, at + timedelta(minutes=n)) for n, number in enumerate(reversed(down))]
            assert sum(made) <= 2
            night = down[-1]
        elif chance < 0.16:  # down, and nobody looks back
            night = min(night + dice.randrange(1, 5), NIGHTS) - 1
        elif chance < 0.20:  # for some nights only the command line
            down = range(night, min(night + dice.randrange(1, 5), NIGHTS))
            for number in down:
                world.by_hand(world.model.ends(number) + timedelta(minutes=dice.randrange(1, 1300)))
            night = down[-1]
        elif chance < 0.24:  # on time to the last microsecond, or late by nothing
            world.run(night, end + length - dice.choice([INSTANT, timedelta()]))
        elif chance < 0.32 and night > 12:  # an old night is asked for again
            world.run(night, end + timedelta(minutes=5))
            world.run(night - dice.randrange(1, 12), end + timedelta(minutes=6))
        else:
            world.run(night, end + timedelta(seconds=dice.randrange(1, 3600)))
        yield night
        night += 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wall", "zone", "seed"),
    [("02:30", "Europe/Berlin", 1), ("01:30", "America/New_York", 2), ("00:00", "Europe/Berlin", 3)],
)
def test_every_night_is_covered_and_kept_as_the_model_says(tmp_path: Path, wall: str, zone: str, seed: int) -> None:
    world = World(tmp_path, wall, zone, seed)
    for night in live_through(world):
        world.compare(max(world.clock.now, world.model.ends(night)))
    assert world.states == {"on_time", "late", "missed", "expected", "held", "expired"}
    lengths = {b - a for a, b in zip(world.model.instants, world.model.instants[1:], strict=False)}
    assert lengths >= {timedelta(hours=23), timedelta(hours=24), timedelta(hours=25)}
    assert any(f"{end.astimezone(ZoneInfo(zone)):%m-%d}" == "02-29" for end in world.model.instants)
