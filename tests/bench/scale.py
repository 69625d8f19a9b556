"""Trees of up to 10⁷ files that are nowhere: memory of every step, bytes of a manifest's row, bytes a night writes.

    PYTHONPATH=include:tests .venv/bin/python tests/bench/scale.py FOLDER [--sizes 10000 100000 1000000 10000000]

For each size a first night, a night with the same 200 changed files and a restore of metadata run in one process. Only
reading the content of the first night is left out: its rows get digests without it. Then the comparison with the parent
runs alone, in a process of its own. A step's memory is the most that was resident while it ran.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import moraine.__main__  # noqa: F401  (memory as the command line has it; Arrow looks at that when it is loaded)

# isort: split
import numpy as np
import pyarrow as pa

from made_tree import MadeSource, MadeTarget
from moraine.model.entry import Kind
from moraine.model.policy import Policy
from moraine.model.policy_file import validate_policy
from moraine.model.schemas import CONTENT, INVENTORY, RESULTS
from moraine.model.window import Window
from moraine.repository.repository import Repository
from moraine.steps.backup import Holder, backup
from moraine.steps.close import close_run
from moraine.steps.commit import commit
from moraine.steps.copy_journal import Done
from moraine.steps.diff import Diffed, diff_entries
from moraine.steps.list import Listed, list_entries
from moraine.steps.open import open_run
from moraine.steps.restore import execute_restore
from moraine.steps.restore_plan import plan_restore
from moraine.steps.run import Run, resume_run
from moraine.stores.base import Store
from moraine.stores.local import LocalStore
from moraine.stores.memory import MemoryStore

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
CHANGED = 200
HOLDER = Holder("bench", "bench", lambda mark: False)


def main() -> None:
    """Every size; then what a night writes over all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--plain", action="store_true", help="a repository that is not encrypted")
    parser.add_argument("--memory", action="store_true", help="working files in memory")
    args = parser.parse_args()
    for files in args.sizes:
        folder = args.folder / str(files)
        print(f"\n{files:,} files, {'plain' if args.plain else 'encrypted'}", flush=True)
        alone(partial(nights, folder, files, plain=args.plain, memory=args.memory))
        alone(partial(inventory, folder, files))
        alone(partial(comparison, folder, files))
    print(f"\nbytes written by a night with {CHANGED} changed files")
    for files in args.sizes:
        folder = args.folder / str(files)
        written = json.loads((folder / "written.json").read_text())
        print(f"{files:>12,} files: {sum(written.values()):>9,}  {written}")
        shutil.rmtree(folder)


def alone(work: Callable[[], object]) -> None:
    """Run in a process of its own."""
    child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise SystemExit("it failed, see above")


def nights(folder: Path, files: int, *, plain: bool = False, memory: bool = False) -> None:
    """First night, changed night and restore, in this process."""
    store = LocalStore(folder / "repository")
    Repository.create(store, passphrase=None if plain else b"bench", now=clock(), entropy=os.urandom)
    repository = Repository.open(store, lambda: b"bench", entropy=os.urandom)
    work: Store = MemoryStore() if memory else LocalStore(folder / "work")
    first(repository, files, work)
    sizes = stored(folder)
    print(f"  manifest: {sizes['manifests'] / repository.snapshot(newest(repository)).rows:.1f} bytes a row")
    with measured("a night"):
        again = Repository.open(store, lambda: b"bench", entropy=os.urandom)
        backup(again, policy(), MadeSource(files, CHANGED), clock=clock, entropy=os.urandom, holder=HOLDER, work=work)
    written = stored(folder) - sizes
    (folder / "written.json").write_text(json.dumps(written))
    with measured("plan a restore"):
        snapshot = again.snapshot(newest(again))
        plan = plan_restore(again, snapshot, target=MadeTarget())
    with measured("restore metadata"):
        restored = execute_restore(plan, again, MadeTarget())
        assert (restored.refreshed, restored.files) == (files - CHANGED, CHANGED), restored


def first(repository: Repository, files: int, work: Store) -> None:
    """The first night: every step but reading."""
    source = MadeSource(files)
    run = opened(repository, source, work)
    with measured("list"):
        listed = [list_entries(run, shard) for shard in source.shards(1)]
    with measured("diff without a parent"):
        diffed = diff_entries(run, listed)
    with measured("digests for the rows"):
        outcomes = [digested(run, diffed, shard.number) for shard in diffed.shards]
        proofs = [proven(run, shard.number) for shard in diffed.shards]
    with measured("commit"):
        commit(run, diffed, outcomes, proofs)
        close_run(repository, run.session.id, clock=clock, work=work)


def inventory(folder: Path, files: int) -> None:
    """List for the comparison."""
    repository = Repository.open(LocalStore(folder / "repository"), lambda: b"bench", entropy=os.urandom)
    source = MadeSource(files, 2 * CHANGED)
    run = opened(repository, source, LocalStore(folder / "work"))
    listed = list_entries(run, source.shards(1)[0])
    (folder / "listed.json").write_text(json.dumps([run.session.id, asdict(listed)]))


def comparison(folder: Path, files: int) -> None:
    """The comparison of two listings, alone."""
    session, listed = json.loads((folder / "listed.json").read_text())
    repository = Repository.open(LocalStore(folder / "repository"), lambda: b"bench", entropy=os.urandom)
    source, work = MadeSource(files), LocalStore(folder / "work")
    run = resume_run(repository, policy(), source, session, 1, clock=clock, entropy=os.urandom, work=work)
    before = cpu()
    with measured("diff alone"):
        diffed = diff_entries(run, [Listed(**listed)])
    assert diffed.counts["changes"] == 2 * CHANGED - CHANGED, diffed.counts
    print(f"  {files / (cpu() - before) / 1e6:.2f} million rows per CPU second")


def digested(run: Run, diffed: Diffed, shard: int) -> str:
    """What a copy shard leaves, with digests from nowhere."""
    rng = np.random.default_rng(shard)
    done = Done(shard, diffed.changes)
    for number, table in enumerate(run.work.load_pieces(diffed.changes, part=shard)):
        file = table["kind"].to_numpy() == Kind.FILE
        ids = rng.integers(0, 256, (table.num_rows, 32), np.uint8).view("S32").ravel()
        columns = {name: table[name] for name in INVENTORY.names}
        columns |= {field.name: pa.nulls(table.num_rows, field.type) for field in CONTENT}
        columns["digest"] = pa.array(np.frombuffer(ids, "V32").tolist(), pa.binary(32), mask=~file)
        columns |= {name: _same(table, text) for name, text in (("owner", "loader"), ("group", "data"))}
        columns["session"] = _same(table, run.session.id)
        name = f"copy/{shard:05d}/made-{number}"
        done.results.append(run.work.save_table(name, pa.table(columns, schema=RESULTS)))
    return run.work.save_json(f"copy/{shard:05d}/made-outcome", asdict(done))


def proven(run: Run, shard: int) -> str:
    """What `verify` says of a shard without packs."""
    proof = {"shard": shard, "depth": "structure", "packs": [], "frames": 0, "chunks": 0, "bytes": 0}
    return run.work.save_json(f"verify/{shard:05d}", proof)


def opened(repository: Repository, source: MadeSource, work: Store) -> Run:
    """An open run."""
    now = clock()
    return open_run(
        repository,
        policy(),
        source,
        run=f"bench-{now}",
        window=Window(now, now),
        clock=clock,
        entropy=os.urandom,
        work=work,
    )


def policy() -> Policy:
    """A plain one; its source is never looked at."""
    fields = {"policy": "bench", "source": {"path": "/made"}, "repository": {"url": "memory://"}, "rehash": 0.0}
    return validate_policy(fields)


def newest(repository: Repository) -> str:
    """The last snapshot."""
    return list(repository.state.snapshots)[-1]


def stored(folder: Path) -> Counter[str]:
    """Bytes in the repository, by the first part of keys."""
    sizes: Counter[str] = Counter()
    top = folder / "repository"
    for path in top.rglob("*"):
        if path.is_file():
            sizes[path.relative_to(top).parts[0]] += path.stat().st_size
    return sizes


@contextmanager
def measured(what: str) -> Iterator[None]:
    """Print what a step took: wall and CPU seconds, the most memory that was resident during it."""
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts from what is resident now
    began, used = time.monotonic(), cpu()
    yield
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) >> 10
    print(f"  {what}: {time.monotonic() - began:.1f} s, CPU {cpu() - used:.1f} s, {peak} MiB", flush=True)


def cpu() -> float:
    """CPU seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def clock() -> datetime:
    """The present."""
    return datetime.now(UTC)


def _same(table: pa.Table, text: str) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(table.num_rows, np.int32)), pa.array([text]))


if __name__ == "__main__":
    main()
