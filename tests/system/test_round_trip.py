"""A tree with every nasty thing in it comes back equal: from every store, as root and as a user, twice."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from compare import compare_trees, rsync_differences
from moraine.repository.repository import Repository
from moraine.sources.posix_target import PosixTarget
from moraine.steps.check import check_repository
from moraine.steps.restore import execute_restore
from moraine.steps.restore_plan import plan_restore
from moraine.stores.base import Store
from moraine.stores.open import open_store
from nasty import make_nasty_tree, nasty_edit
from night import Clock, Night, make_policy, make_repository, open_repository
from servers import S3Server
from unprivileged import as_nobody, open_directory

ROOT = os.geteuid() == 0
Bucket = Callable[[str], tuple[S3Server, str]]
SLOW_SERVERS = ("ministack", "versitygw")  # moto stands for them where there is little time


@dataclass
class Address:
    """A store, and how to reach it."""

    url: str
    endpoint_url: str | None = None
    environ: dict[str, str] | None = None

    def open(self) -> Store:
        """Open it anew."""
        return open_store(self.url, endpoint_url=self.endpoint_url, environ=self.environ)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A place that an ordinary user can reach."""
    with open_directory() as place:
        yield place


@pytest.fixture(params=["local", "moto", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_SERVERS)])
def address(request: pytest.FixtureRequest, folder: Path, s3_bucket: Bucket) -> Address:
    """Where the repository is."""
    if request.param == "local":
        return Address(str(folder / "repository"))
    server, bucket = s3_bucket(request.param)
    return Address(f"s3://{bucket}/some/prefix", server.endpoint_url, dict(server.credentials))


@pytest.mark.skipif(not ROOT, reason="not root")
def test_two_nights_of_a_nasty_tree_as_root(address: Address, folder: Path) -> None:
    two_nights(address.open, folder)


def test_two_nights_of_a_nasty_tree_as_an_ordinary_user(address: Address, folder: Path) -> None:
    """In a process of its own: what speaks to S3 does not survive a fork."""
    given = json.dumps([*asdict(address).values(), str(folder)])
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, __file__, given], check=True, env=environ, timeout=200)


def two_nights(open_it: Callable[[], Store], folder: Path) -> None:
    """Back up, restore and compare; edit, and all that again; then check every byte."""
    clock = Clock(datetime.now(UTC))
    make_repository(open_it(), clock)
    source, first = folder / "source", folder / "first"
    make_nasty_tree(source, as_root=os.geteuid() == 0)
    night(open_it, source, clock, "one")
    require_equal(open_repository(open_it()), "latest", source, folder / "one")
    (folder / "one").rename(first)
    nasty_edit(source)
    clock.advance(days=1)
    night(open_it, source, clock, "two")
    repository = open_repository(open_it())
    require_equal(repository, "latest", source, folder / "two")
    require_equal(repository, repository.state.live()[0].id, first, folder / "again")
    checked = check_repository(repository, read_data=1.0, clock=clock)
    assert checked.problems == []


def night(open_it: Callable[[], Store], source: Path, clock: Clock, name: str) -> None:
    """One night; an ordinary user may not read everything."""
    policy = make_policy(source, limits={"unreadable_share": 1.0})
    Night(open_it, source, policy, clock, name).all()


def require_equal(repository: Repository, snapshot: str, expected: Path, out: Path) -> None:
    """Restore and compare with the tree, by our own comparer and by rsync."""
    target = PosixTarget(out)
    plan = plan_restore(repository, repository.snapshot(snapshot), target=target)
    restored = execute_restore(plan, repository, target, verify=True)
    unreadable = {warning["path"] for warning in restored.warnings if warning["code"] == "not-captured"}
    differences = [line for line in compare_trees(expected, out) if line.partition(":")[0] not in unreadable]
    assert differences == []
    lines = rsync_differences(expected, out, exclude=["/deep"])  # beyond the path length rsync can do
    if unreadable:  # rsync may not read it either, and says so; only what it would change counts then
        lines = [line for line in lines if re.match(r"[<>ch.*][fdLDS]|\*deleting", line)]
    left = [line for line in lines if not any(path in line for path in unreadable)]
    assert left == [], left


if __name__ == "__main__":
    *parts, place = json.loads(sys.argv[1])
    as_nobody(Path(place), lambda: two_nights(Address(*parts).open, Path(place)))
