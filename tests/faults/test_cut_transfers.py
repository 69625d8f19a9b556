"""A transfer that is cut and killed again and again ends whole, and has moved little more than its data."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cutting_proxy import CuttingProxy, cutting
from moraine.stores.open import open_store
from night import Clock, Night, make_policy, make_repository, open_repository
from restored import assert_restores
from servers import SERVERS, S3Server

CHILD = Path(__file__).resolve().parents[1] / "copy_child.py"
MIB = 1 << 20
Bucket = Callable[[str], tuple[S3Server, str]]


@dataclass
class Transfer:
    """One night whose copy step runs in processes that are killed, through a proxy that cuts."""

    server: S3Server
    bucket: str
    folder: Path
    interval: int  # bytes between two journal entries
    small_packs: bool = False
    starts: int = 0
    reads: list[int] = field(default_factory=list)
    peak: int = 0

    @property
    def source(self) -> Path:
        return self.folder / "source"

    def begin(self, size: int, small_files: int) -> int:
        """Make the tree and the night, up to the change set; the bytes of the tree."""
        self.source.mkdir()
        total = fill(self.source / "huge", size)
        for number in range(small_files):
            total += fill(self.source / f"small{number:05d}", 7_000 + number)
        total += fill(self.source / "medium", size // 20)
        clock = Clock(datetime.now(UTC) + timedelta(hours=1))
        make_repository(self.store(), clock)
        self.night = Night(self.store, self.source, make_policy(self.source), clock)
        for step in ("open", "list", "diff", "gate"):
            self.night.step(step)
        return total

    def store(self) -> Any:
        return open_store(
            f"s3://{self.bucket}/r", endpoint_url=self.server.endpoint_url, environ=dict(self.server.credentials)
        )

    def copy(self, endpoint_url: str, kill_after: int | None) -> bool:
        """One attempt, killed -9 once it has read so many bytes; whether it came to its end."""
        assert self.night.session and self.night.diffed
        self.starts += 1
        counter, out = self.folder / f"counter{self.starts}", self.folder / "out.json"
        given = {
            "url": f"s3://{self.bucket}/r",
            "endpoint_url": endpoint_url,
            "environ": dict(self.server.credentials),
            "source": str(self.source),
            "session": self.night.session[0],
            "attempt": self.night.session[1],
            "changes": self.night.diffed.changes,
            "shards": [shard.number for shard in self.night.diffed.shards],
            "interval": self.interval,
            "small_packs": self.small_packs,
            "counter": str(counter),
            "out": str(out),
        }
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        child = subprocess.Popen([sys.executable, str(CHILD), json.dumps(given)], env=environ)
        try:
            while child.poll() is None:
                if kill_after is not None and counted(counter) >= kill_after:
                    os.kill(child.pid, signal.SIGKILL)
                time.sleep(0.01)
        finally:
            child.kill()
            child.wait()
        self.reads.append(counted(counter))
        assert child.returncode in (0, -signal.SIGKILL)
        if child.returncode == 0:
            done = json.loads(out.read_text())
            self.peak = done["peak"]
            self.night.outcomes = dict(enumerate(done["outcomes"]))
        return child.returncode == 0

    def require_equal(self) -> None:
        """Verify, commit, restore and compare."""
        for step in ("verify", "commit", "close"):
            self.night.step(step)
        repository = open_repository(self.store())
        assert not list(repository.store.list("sessions/")), "close leaves no working file"
        assert_restores(repository, repository.state.live()[0].id, self.source)


def fill(path: Path, size: int) -> int:
    """A file of so many incompressible bytes."""
    noise = np.random.default_rng(size)
    with open(path, "wb") as file:
        for start in range(0, size, 8 * MIB):
            file.write(noise.bytes(min(8 * MIB, size - start)))
    return size


def counted(path: Path) -> int:
    try:
        return int(path.read_text() or 0)
    except FileNotFoundError:
        return 0


def disturbed(transfer: Transfer, proxy: CuttingProxy, size: int, kills: int, seed: int) -> tuple[int, int]:
    """Kill at places of the seed's choice, then let it end: bytes read and bytes sent."""
    places = random.Random(seed)
    for _ in range(kills):
        if transfer.copy(proxy.endpoint_url, kill_after=int(size / (kills + 1) * places.uniform(0.8, 1.2))):
            break
    else:
        assert transfer.copy(proxy.endpoint_url, None)
    return sum(transfer.reads), proxy.sent


def report(name: str, transfer: Transfer, proxy: CuttingProxy, total: int, began: float) -> None:
    read, sent = sum(transfer.reads), proxy.sent
    print(
        f"\n{name}: {total / MIB:,.0f} MiB, {transfer.starts} starts, {dict(proxy.met)}; read {read / total:.3f} x,"
        f" sent {sent / total:.3f} x, peak {transfer.peak / MIB:.0f} MiB, {time.monotonic() - began:.0f} s"
    )


@pytest.mark.parametrize("name", SERVERS)
def test_a_small_transfer(name: str, s3_bucket: Bucket, tmp_path: Path) -> None:
    transfer = Transfer(*s3_bucket(name), tmp_path, interval=2 * MIB, small_packs=True)
    total = transfer.begin(20 * MIB, 20)
    began = time.monotonic()
    with cutting(transfer.server.endpoint_url, mean=3 * MIB, seed=7) as proxy:
        read, sent = disturbed(transfer, proxy, total, kills=2, seed=7)
    report(name, transfer, proxy, total, began)
    # A kill costs what was read since the last part, and what a thread has read ahead (a span of 8 MiB).
    assert read <= total + (transfer.starts - 1) * (transfer.interval + 9 * MIB)
    assert sent <= total * 1.6
    assert proxy.met  # how many of them depends on how the server and the threads take turns
    transfer.require_equal()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("name", "size"), [("versitygw", 2200 * MIB), ("ministack", 600 * MIB), ("moto", 600 * MIB)])
def test_a_large_transfer(name: str, size: int, s3_bucket: Bucket, tmp_path: Path) -> None:
    transfer = Transfer(*s3_bucket(name), tmp_path, interval=size // 16)
    total = transfer.begin(size, 2000)
    assert name != "versitygw" or total > 2 << 30
    began = time.monotonic()
    with cutting(transfer.server.endpoint_url, mean=64 * MIB, seed=11) as proxy:
        read, sent = disturbed(transfer, proxy, total, kills=5, seed=11)
    report(name, transfer, proxy, total, began)
    assert transfer.starts >= 4
    assert proxy.met["cut"] and proxy.met["slow_down"]
    assert read <= total + (transfer.starts - 1) * (transfer.interval + 16 * MIB)
    assert sent <= total * 1.6
    transfer.require_equal()
