"""The tasks of a backup DAG: each calls one step and returns what it came to as small JSON.

A task's name is its step's. `opened`, `listed` … are what earlier tasks returned; working data stays in the
repository's session and is only referred to. A task that runs twice, or again weeks later, finds its session or says
clearly that it is gone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowSkipException

from moraine.workflows.assets import EVENT, snapshot_asset
from moraine.workflows.signals import tell_policy
from moraine.workflows.task_context import Bench, Json, host, now, parameter, run_identity, standing, why_not
from moraine.workflows.task_log import RESULT, LogProgress, log

if TYPE_CHECKING:
    from datetime import timedelta

    from moraine.engine.coverage import Standing
    from moraine.model.log import LogState
    from moraine.model.policy import Policy
    from moraine.sources.base import ListShard
    from moraine.steps.diff import Diffed

# Steps are imported inside the tasks: DAG files are parsed over and over, and steps load Arrow.


def open_(policy: str) -> Json:
    """Open the session, and split the listing."""
    from moraine.steps.open import open_run

    bench = Bench.of(policy)
    history = bench.source.probe().history if bench.policy.source.history else None
    stands = _require_needed(bench.policy, bench.repository.state, history)
    if history is not None and stands.late:
        log.warning(
            "replaced versions stay in the bucket for %s days: it can no longer be read as of this window's end",
            history.days,
        )
    run = open_run(
        bench.repository,
        bench.policy,
        bench.source,
        run=run_identity(),
        window=stands.window,
        clock=now,
        entropy=os.urandom,
        host=host(),
        late=stands.late,
        progress=LogProgress(),
        # Runs of one backfill open at the same moment.
        validate=partial(_require_needed, bench.policy, history=history),
    )
    shards = bench.source.shards(bench.policy.shards.list)
    plan = run.work.save_json(run.unique("list-shards"), [_shard_to_json(shard) for shard in shards])
    return {
        "session": run.session.id,
        "attempt": run.session.attempt,
        "parent": run.session.parent,
        "window": run.session.window.to_dict(),
        "plan": plan,
        "shards": [{"number": number, "label": shard.name} for number, shard in enumerate(shards)],
    }


def _require_needed(policy: Policy, state: LogState, history: timedelta | None = None) -> Standing:
    stands = standing(policy, state, now(), history)
    reason = why_not(policy, stands)
    if reason:
        raise AirflowSkipException(reason)
    return stands


def list_(policy: str, opened: Json, shard: Json) -> Json:
    """List one part of the source."""
    from moraine.steps.list import list_entries

    run = Bench.of(policy).resume(opened)
    part = _shard_from_json(run.work.load_json(opened["plan"])[shard["number"]])
    return asdict(list_entries(run, part))


def diff(policy: str, opened: Json, listed: Any) -> Json:
    """Compare with the parent snapshot, and split the copy."""
    from moraine.steps.list import Listed
    from moraine.steps.mirror_diff import drift_report, drift_sentence
    from moraine.steps.route import steps_of

    run = Bench.of(policy).resume(opened)
    diffed = steps_of(run.policy).diff(run, [Listed(**part) for part in listed[:]])
    drift = drift_sentence(drift_report(run)) if run.mirror else ""
    if drift:
        log.warning("somebody else has changed the mirror: %s", drift)
    return asdict(diffed)


def gate(policy: str, opened: Json, diffed: Json) -> Json:
    """Refuse what looks like an accident."""
    from moraine.steps.route import steps_of

    run = Bench.of(policy).resume(opened)
    if parameter("allow_change"):
        log.warning("the gate was told to let everything through")
        return {"verdict": "allowed", "reasons": ()}
    return asdict(steps_of(run.policy).gate(run, _diffed(diffed)))


def copy(policy: str, opened: Json, diffed: Json, shard: Json) -> Json:
    """Copy one part of the changes."""
    from moraine.engine.plan import PlanShard
    from moraine.steps.route import steps_of

    part, run = PlanShard(**shard), Bench.of(policy).resume(opened)
    copied = asdict(steps_of(run.policy).copy(run, diffed["changes"], part.number, planned=part))
    return {**copied, "label": part.label, "changes": diffed["changes"]}  # `verify` is named like this too


def verify(policy: str, opened: Json, diffed: Json, copied: Json) -> Json:
    """Read back what one copy task has written."""
    from moraine.steps.route import steps_of

    if not _current([copied], diffed):
        raise AirflowSkipException("written by an earlier attempt of this run, which had more to copy")
    run = Bench.of(policy).resume(opened)
    return {**asdict(steps_of(run.policy).verify(run, copied["outcome"])), "changes": diffed["changes"]}


def commit(policy: str, opened: Json, diffed: Json, copied: Any, verified: Any) -> Json:
    """Make the snapshot a fact."""
    from moraine.steps.route import steps_of

    run = Bench.of(policy).resume(opened, committed=True)
    outcomes = [part["outcome"] for part in _current(copied[:], diffed)]
    evidence = [part["evidence"] for part in _current(verified[:], diffed)]
    committed = asdict(steps_of(run.policy).commit(run, _diffed(diffed), outcomes, evidence))
    event = get_current_context()["outlet_events"][snapshot_asset(policy)]
    event.extra = {name: committed[name] for name in EVENT}
    return committed


def prove(policy: str, committed: Json) -> Json:
    """Check the snapshot's manifest, restore a sample of it and compare."""
    from moraine.steps.prove import prove as execute

    bench = Bench.of(policy)
    with TemporaryDirectory(prefix="moraine-prove-") as scratch:
        proven = execute(
            bench.repository, bench.policy, committed["snapshot"], clock=now, entropy=os.urandom, scratch=Path(scratch)
        )
    for gap in proven.not_proven:
        log.info("not proven: %s", gap)
    return asdict(proven)


def retain(policy: str) -> Json:
    """Forget what the policy's rules no longer keep."""
    from moraine.steps.mirror_verify import retain_any

    bench = Bench.of(policy)
    done = retain_any(bench.repository, bench.policy, clock=now, dry_run=bool(parameter("retain_dry_run")))
    for name in done.purged:
        log.info("purged trash %s", name)
    retained = done.retained
    for word, snapshots in (("keep", retained.kept), ("forget", retained.forgotten)):
        for item in snapshots:
            log.info("%s %s, window to %s: %s", word, item["snapshot"], item["window_end"], "; ".join(item["reasons"]))
    return {
        "dry_run": retained.dry_run,
        "kept": len(retained.kept),
        "forgotten": [item["snapshot"] for item in retained.forgotten],
    }


def close(policy: str) -> Json:
    """Tidy up after a commit; leave everything in place for a retry otherwise. Say how the policy stands."""
    from moraine.steps.close import close_run

    silence = tell_policy(policy, now())
    if silence:
        log.warning("%s", silence)
    opened = get_current_context()["ti"].xcom_pull(task_ids="open", key=RESULT)
    if not opened:
        return {"snapshot": None, "compacted": 0, "notes": ["no session was opened"]}
    return asdict(close_run(Bench.of(policy).repository, opened["session"], clock=now))


def _current(parts: Iterable[Json], diffed: Json) -> list[Json]:
    """The parts that belong to this change set.

    A run that is opened anew may have fewer parts than before. Airflow takes those tasks out of the run, but what they
    have returned stays, and comes along whenever all of it is asked for.
    """
    return [part for part in parts if part.get("changes") == diffed["changes"]]


def _diffed(data: Json) -> Diffed:
    from moraine.engine.plan import PlanShard
    from moraine.steps.diff import Diffed

    return Diffed(data["changes"], tuple(PlanShard(**shard) for shard in data["shards"]), data["counts"])


def _shard_to_json(shard: ListShard) -> Json:
    return {
        "name": shard.name,
        "roots": [quote_from_bytes(root) for root in shard.roots],
        "stop_at": [quote_from_bytes(root) for root in shard.stop_at],
    }


def _shard_from_json(data: Json) -> ListShard:
    from moraine.sources.base import ListShard

    roots, stop_at = (tuple(unquote_to_bytes(root) for root in data[name]) for name in ("roots", "stop_at"))
    return ListShard(data["name"], roots, stop_at)
