"""The copy shards of a run, all in this command: one after another, or some at once in processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from moraine.engine.plan import PlanShard
from moraine.model.progress import Progress
from moraine.steps.copy import Copied
from moraine.steps.diff import Diffed
from moraine.steps.run import Run
from moraine.stores.memory import MemoryStore

if TYPE_CHECKING:
    from moraine.steps.processes import Part

Copy = Callable[..., Copied]


def copy_shards(run: Run, copy: Copy, diffed: Diffed) -> list[Copied]:
    """Copy all shards. Raises every error of the step, and RestoreError when a process was killed."""
    shards, work = diffed.shards, run.work.store
    if min(len(shards), run.processes) > 1 and isinstance(work, MemoryStore):
        from moraine.steps.processes import in_processes, may_fork

        if may_fork(run.repository.store):
            done: dict[int, Copied] = {}

            def take(told: Copied | tuple[str, bytes]) -> None:
                if isinstance(told, Copied):
                    done[told.shard] = told
                else:
                    work.put(*told)

            run.progress.start("copy", sum(one.files for one in shards), sum(one.bytes for one in shards))
            for start in range(0, len(shards), run.processes):
                parts = [partial(_copy, run, copy, diffed, one) for one in shards[start : start + run.processes]]
                in_processes(parts, run.progress, name="copy", apart=partial(_apart, work), take=take)
            run.progress.finish("copy")
            return [done[shard.number] for shard in shards]
    run = replace(run, processes=1)
    return [_copy(run, copy, diffed, shard, run.progress) for shard in shards]


def _copy(run: Run, copy: Copy, diffed: Diffed, shard: PlanShard, progress: Progress) -> Copied:
    return copy(replace(run, progress=progress), diffed.changes, shard.number, planned=shard)


def _apart(work: MemoryStore, part: Part, told: Progress) -> Iterator[Copied | tuple[str, bytes]]:
    """In a process of its own: what the shard did, and the working files that it has left for later steps."""
    work.apart()
    copied = part(told)
    yield from work.news()
    yield copied
