"""A small lake, its repository, and drills as a test wants them."""

from __future__ import annotations

import os
import random
import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from moraine.model.policy import Policy
from moraine.repository.repository import Repository
from moraine.steps.drill import Rehearsal, drill
from moraine.steps.drill_report import Reported
from moraine.stores.base import Store
from moraine.stores.local import LocalStore
from night import Clock, Night, make_policy, make_repository, open_repository


class Lake:
    """A source of many kinds of files; nights and drills."""

    def __init__(self, folder: Path, *, now: datetime | None = None, **drill: Any) -> None:
        self.folder, self.source, self.place = folder, folder / "lake", folder / "place"
        rng = random.Random(1)
        (self.source / "orders/day=1").mkdir(parents=True)
        for number in range(3):
            table = pa.table({"id": list(range(1000)), "amount": [rng.random() for _ in range(1000)]})
            pq.write_table(table, self.source / f"orders/day=1/part-{number}.parquet")
        (self.source / "events").mkdir()
        for number in range(20):
            (self.source / f"events/{number}.jsonl").write_text('{"a":1}\n' * (10 + number))
        (self.source / "odd [names]* \\").mkdir()
        (self.source / os.fsdecode(b"odd [names]* \\/\xff")).write_bytes(rng.randbytes(5000))
        (self.source / "large.bin").write_bytes(rng.randbytes(9 << 20))
        (self.source / "empty folder").mkdir()
        (self.source / "link").symlink_to("large.bin")
        with closing(sqlite3.connect(self.source / "catalog.sqlite")) as database, database:
            database.execute("create table product (id integer primary key, name text)")
            database.executemany("insert into product values (?, ?)", [(n, f"product {n}") for n in range(100)])
        self.repository_path = folder / "repository"
        # By default long after the files, so that none of them is racy.
        self.clock = Clock(now or datetime.now(UTC) + timedelta(days=1))
        make_repository(self.store, self.clock)
        self.rules: dict[str, Any] = {"place": {"path": str(self.place)}, "seed": 7, "restore": "whole", **drill}

    @property
    def store(self) -> Store:
        return LocalStore(self.repository_path)

    @property
    def repository(self) -> Repository:
        return open_repository(self.store)

    def policy(self, *, objectives: dict[str, Any] | None = None, **drill: Any) -> Policy:
        return make_policy(self.source, "lake", drill=self.rules | drill, objectives=objectives or {})

    def night(self) -> str:
        self.clock.advance(days=1)
        name = f"at {self.clock()}"
        return Night(lambda: self.store, self.source, self.policy(), self.clock, run_id=name).all().snapshot

    def rehearsal(self, owner: str = "test/1", **parts: Any) -> Rehearsal:
        usual: dict[str, Any] = {
            "clock": self.clock,
            "entropy": os.urandom,
            "scratch": self.folder / "temporary",
            "owner": owner,
            "ended": lambda other: False,
            "environ": {"PATH": os.environ["PATH"]},
            "import_path": os.pathsep.join(sys.path),
        }
        return Rehearsal(**usual | parts)

    def drill(
        self, policy: Policy | None = None, *, repository: Repository | None = None, **asked: Any
    ) -> tuple[Reported, dict[str, Any]]:
        """A drill, and its report."""
        self.clock.advance(hours=1)
        found = drill(repository or self.repository, policy or self.policy(), self.rehearsal(), **asked)
        return found, self.repository.load_report(found.report)

    def leftovers(self) -> list[str]:
        return (
            sorted(str(path.relative_to(self.place)) for path in self.place.rglob("*")) if self.place.exists() else []
        )

    def packs(self) -> list[str]:
        return [info.key for info in self.store.list("packs/")]

    def damage(self, key: str) -> None:
        """Flip a bit in the middle of an object."""
        data = bytearray(self.store.get(key))
        data[len(data) // 2] ^= 1
        self.store.delete(key)
        self.store.put(key, data)
