"""The world in which stories of retries, kills and missed nights are played: one Airflow, a tree, orders."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml

from airflow_set import PROMPT, AirflowSet, until, up
from moraine.model.log import LogEntry
from moraine.repository import key_slots
from moraine.repository.repository import Repository
from moraine.steps.init import init_repository
from moraine.stores.local import LocalStore
from restored import assert_restores

PASSPHRASE = b"of all stories"
FILES, SHARD = 24, 13  # files of a tree, and how many of them one copy task gets
NIGHTS = 5  # missed by the policies with a schedule

# Each story has a policy of its own. Most share one repository: they meet in its log.
SHARED = ["by-rest", "by-command", "killed-before", "killed-after", "balloon", "zombie", "restarts", "one", "two"]
SHARED += ["passing"]
# A new scheduler takes over from a dead one after a minute instead of five.
TAKES_OVER = ["scheduler.orphaned_tasks_check_interval=20", "scheduler.scheduler_health_check_threshold=30"]
ALONE = ["aged", "swept", "given-up"]  # their clocks differ
SCHEDULED = {"late-capture": {}, "late-skip": {"late": "skip"}, "late-fail": {"late": "fail"}, "catchup": {}}


@dataclass
class World:
    """What the stories have in common."""

    folder: Path
    airflow: AirflowSet
    first_night: datetime  # its window ends a day later

    @property
    def orders(self) -> Path:
        return self.folder / "orders"

    def tree(self, policy: str) -> Path:
        """What a policy protects; no two have a file in common, or one would find it stored by the other."""
        return self.folder / "trees" / policy

    def repository(self, policy: str) -> Repository:
        """Its repository, opened anew."""
        store = LocalStore(self.folder / _place(policy))
        return Repository.open(store, lambda: PASSPHRASE, entropy=os.urandom)

    def snapshots(self, policy: str) -> list[str]:
        """The live snapshots of a policy, oldest commit first."""
        return [record.id for record in self.repository(policy).state.live(policy)]

    def entries(self, policy: str, kind: str) -> list[LogEntry]:
        """What the log has of this type about a policy's sessions."""
        return [
            entry
            for entry in self.repository(policy).log.entries()
            if entry.type == kind and (entry.body.get("session") or {}).get("policy") == policy
        ]

    def order(self, name: str, policy: str, task: str | None = None, **parts: Any) -> Path:
        """Put an order where the tasks of a policy find it."""
        content = {"dag": f"backup__{policy}", **({"task": task} if task else {}), **parts}
        file = self.orders / f"{policy}-{name}.json"
        file.write_text(json.dumps(content))
        return file

    def met(self, order: Path) -> list[tuple[int, int]]:
        """Processes that have obeyed an order: of the task, and of its supervisor."""
        found = self.orders.glob(f"{order.stem}.met-*")
        return [(int(task), int(parent)) for _, task, parent in (file.suffix.split("-") for file in found)]

    def start(self, policy: str, **conf: Any) -> str:
        """Start a run by hand."""
        self.unpause(policy)
        return self.airflow.start(f"backup__{policy}", **conf)

    def unpause(self, policy: str) -> None:
        """Let the scheduler have it."""
        self.airflow.ask(f"/api/v2/dags/backup__{policy}", {"is_paused": False}, method="PATCH")

    def end(self, policy: str, run: str, state: str = "success", seconds: float = 600) -> dict[str, str]:
        """Wait for the end of a run; state and tries of its tasks."""
        return self.airflow.await_end(f"backup__{policy}", run, seconds, state)

    def assert_restores(self, policy: str, count: int) -> None:
        """The policy has so many snapshots, and each restores equal to the tree."""
        snapshots = self.snapshots(policy)
        assert len(snapshots) == count
        for snapshot in snapshots:
            assert_restores(self.repository(policy), snapshot, self.tree(policy))

    def assert_one_snapshot(self, policy: str) -> None:
        """The policy has one snapshot, and that restores equal to the tree."""
        self.assert_restores(policy, 1)

    def await_met(self, order: Path, seconds: float = 300) -> tuple[int, int]:
        """Wait until a task obeys the order."""
        found: list[tuple[int, int]] = until(lambda: self.met(order), seconds, f"{order.stem} is obeyed")
        return found[0]

    def thaw(self) -> None:
        """Let whatever still stands frozen go on, so that it can be ended."""
        for order in self.orders.glob("*.met-*"):
            for word in order.suffix.split("-")[1:]:
                with_id = Path(f"/proc/{word}/stat")
                if with_id.exists() and with_id.read_text().rpartition(")")[2].split()[0] == "T":
                    os.kill(int(word), signal.SIGCONT)


@contextmanager
def story_world(folder: Path, checkout: Path) -> Iterator[World]:
    """Make trees, repositories and policies, and start an Airflow with them in `checkout`."""
    home = checkout / ".airflow"
    orders = folder / "orders"
    orders.mkdir()
    (home / "config").mkdir(parents=True)
    shutil.copy(Path(__file__).parent / "ambush/airflow_local_settings.py", home / "config")
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    environ = {**os.environ, "MORAINE_AMBUSH": str(orders)}
    world = World(folder, AirflowSet(checkout, home, environ), today - timedelta(days=NIGHTS))
    (folder / "passphrase").write_bytes(PASSPHRASE + b"\n")
    shutil.rmtree(checkout / "include/policies")
    (checkout / "include/policies").mkdir()
    names = [*SHARED, *ALONE, *SCHEDULED]
    for name in names:
        make_tree(world.tree(name))
        write_policy(world, name)
    (checkout / "include/policies/typo.yaml").write_text("policy: typo\nsorce: {path: /x}\nrepository: {url: /y}\n")
    for place in sorted({_place(name) for name in names}):
        with patch.dict(key_slots.SCRYPT, n=1 << 4):  # every task opens it
            store = LocalStore(folder / place)
            init_repository(store, lambda: PASSPHRASE, clock=_long_ago, entropy=os.urandom)
    with up(world.airflow, "up", [*PROMPT, *TAKES_OVER, "core.dags_are_paused_at_creation=True", "core.parallelism=6"]):
        try:
            wanted = {f"backup__{name}" for name in names}
            until(lambda: wanted <= _dags(world.airflow), 300, "all policies are DAGs")
            yield world
        finally:
            world.thaw()


def make_tree(root: Path) -> None:
    """Files that do not compress, and some of each other kind."""
    chance = random.Random(root.name)
    for number in range(FILES):
        file = root / f"day-{number % 4}" / f"{number:02}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(chance.randbytes(60_000 + number))
    (root / "empty").mkdir()
    (root / "day-0/link").symlink_to("00.bin")
    os.link(root / "day-1/01.bin", root / "day-1/same")
    with (root / "day-2/holes").open("wb") as sparse:
        sparse.truncate(4 << 20)
        sparse.seek(1 << 20)
        sparse.write(b"an island")


def write_policy(world: World, name: str) -> None:
    """Write the policy of a story."""
    policy: dict[str, Any] = {
        "policy": name,
        "source": {"path": str(world.tree(name))},
        "repository": {"url": str(world.folder / _place(name)), "passphrase_file": str(world.folder / "passphrase")},
        "shards": {"copy_files": SHARD},
        "verify": {"depth": "full"},
        "keep": {"last": 30},
    }
    if name in SCHEDULED:
        start = {"start": f"{world.first_night:%Y-%m-%d}", "catchup": True} if name == "catchup" else {}
        policy["schedule"] = {"cron": "0 0 * * *", **SCHEDULED[name], **start}
    (world.airflow.checkout / f"include/policies/{name}.yaml").write_text(yaml.safe_dump(policy))


def _place(policy: str) -> str:
    return f"repository-{policy}" if policy in (*ALONE, *SCHEDULED) else "repository"


def _long_ago() -> datetime:
    return datetime.now(UTC) - timedelta(days=60)


def _dags(airflow: AirflowSet) -> set[str]:
    return {dag["dag_id"] for dag in airflow.ask("/api/v2/dags?limit=200")["dags"]}
