"""A policy said in English: what, when, how long kept, how proven.

Owns the sentences of `policy explain` and of the DAG's page. Pure; the same policy always reads the same.
"""

from __future__ import annotations

from moraine.model.cron import say_cron
from moraine.model.policy_checks import Check
from moraine.model.policy_drill import Drill, Objectives
from moraine.model.policy_fields import Gate, Keep, Policy, Prove, Schedule
from moraine.model.policy_sources import PosixSource, S3Source
from moraine.model.units import format_duration, format_share, format_size


def explain(policy: Policy) -> str:
    """The sentences, one per line."""
    lines = [
        f"{policy.policy}: {policy.description}" if policy.description else f"Policy {policy.policy}.",
        f"What: {_what(policy.source)}",
        f"Where: {_where(policy)}.",
        f"When: {_when(policy.schedule)}",
        f"Guards: {_guards(policy)}",
        f"Verified: {_verified(policy)}",
        f"Proven: {_proven(policy.prove)}",
        f"Kept: {_kept(policy.keep)}",
        f"Rehearsed: {_rehearsed(policy.drill)}",
        *([f"Promised: {promised}"] if (promised := _promised(policy.objectives)) else []),
    ]
    if policy.checks:
        lines.append(f"Checked in drills: {_checked(policy.checks)}.")
    if policy.notify:
        ways = [_listed(list(one.email), 3) if one.email else str(one.notifier) for one in policy.notify]
        lines.append(f"Told: {_listed(ways, len(ways))}.")
    return "\n".join(lines)


def _where(policy: Policy) -> str:
    mirror = policy.destination
    if mirror is None:
        return policy.repository.url
    kept = f"for {format_duration(mirror.trash.keep)}" if mirror.trash.keep else "until somebody removes it"
    others = "is set right" if mirror.drift == "heal" else "stops the run"
    gone = f"what is replaced or removed stays in its trash {kept}"
    return f"a mirror, a plain tree at {mirror.url}; {gone}; what somebody else changes in it {others}"


def _what(source: PosixSource | S3Source) -> str:
    text = f"everything under {source.place}"
    without = []
    if source.exclude:
        without.append(_listed([f"'{glob}'" for glob in source.exclude], 6))
    if source.exclude_files:
        without.append(f"what {_listed(list(source.exclude_files), 3)} excludes")
    if isinstance(source, PosixSource):
        if source.exclude_if_present:
            without.append(f"directories holding {_listed(list(source.exclude_if_present), 3)}")
        if source.exclude_caches:
            without.append("directories marked as caches")
    if source.exclude_larger_than is not None:
        without.append(f"files larger than {format_size(source.exclude_larger_than)}")
    if without:
        text += " except " + _listed(without, len(without))
    if isinstance(source, S3Source) and source.history:
        text += ", as it was at the end of each window, from the versions that the bucket keeps"
    if isinstance(source, S3Source) and source.inventory:
        age = format_duration(source.inventory.max_age)
        text += f", listed by the inventory at {source.inventory.url} (at most {age} old)"
    if isinstance(source, PosixSource) and source.one_file_system:
        text += ", staying on its file system"
    if isinstance(source, PosixSource) and source.must_be_mount:
        text += ", only if it is mounted"
    return text + "."


def _when(schedule: Schedule | None) -> str:
    if schedule is None or schedule.cron is None:
        return "only when triggered."
    late = {
        "capture": "A late run captures what is there and says so",
        "skip": "A late run skips its window",
        "fail": "A late run fails",
    }[schedule.late]
    start = f" from {schedule.start} on" if schedule.start else ""
    missed = "missed windows are caught up" if schedule.catchup else "missed windows are not caught up"
    return f"{say_cron(schedule.cron)} ({schedule.timezone}){start}. {late}; {missed}."


def _guards(policy: Policy) -> str:
    gate, limits = policy.gate, policy.limits
    refused = ["an empty source"] if not gate.allow_empty else []
    refused += [f"more than {limit} deleted" for limit in _limits(gate)]
    if gate.max_changed_share is not None:
        refused.append(f"more than {format_share(gate.max_changed_share)} of the files changed")
    if gate.canaries:
        refused.append(f"a change to {_listed(list(gate.canaries), 3)}")
    unreadable = [f"{limits.unreadable_files} files"] if limits.unreadable_files is not None else []
    unreadable.append(format_share(limits.unreadable_share))
    refused.append(f"more than {' or '.join(unreadable)} unreadable")
    return f"nothing is committed on {_listed(refused, len(refused), 'or')}."


def _limits(gate: Gate) -> list[str]:
    limits = [f"{format_share(gate.max_deleted_share)} of the files"]
    return [*limits, f"{gate.max_deleted_files} files"] if gate.max_deleted_files is not None else limits


def _verified(policy: Policy) -> str:
    verify = policy.verify
    if policy.destination:
        return (
            "before the commit the whole mirror is listed and compared"
            + {
                "structure": ".",
                "sample": f", and {format_share(verify.share)} of the files just written are read back and hashed.",
                "full": ", and every file just written is read back and hashed.",
            }[verify.depth]
        )
    return {
        "structure": "before the commit the size and table of new packs are checked.",
        "sample": f"before the commit new packs are checked and {format_share(verify.share)} of their chunks hashed.",
        "full": "before the commit every new chunk is read back and hashed.",
    }[verify.depth]


def _proven(prove: Prove) -> str:
    parts = []
    if prove.sample_files and prove.sample_bytes:
        most = format_size(prove.sample_bytes)
        parts.append(f"{prove.sample_files} files (at most {most}) are restored and compared by hash")
    return f"after the commit {_listed(parts, 2)}." if parts else "not at all."


def _rehearsed(drill: Drill) -> str:
    when = say_cron(drill.schedule) if drill.schedule else "when triggered"
    which = {
        "latest": "the newest snapshot",
        "random": "a random snapshot",
        "stratified": "a snapshot drawn by age and size",
    }[drill.pick]
    sample = f"{drill.sample.files} files (at most {format_size(drill.sample.bytes)}) of {which}"
    what = f"the whole of {which} is" if drill.restore == "whole" else f"{sample} are"
    run = f"; then {drill.run.callable or drill.run.command[0]} has to answer" if drill.run else ""
    return f"{when} {what} restored to a place apart and checked{run}."


def _promised(objectives: Objectives) -> str:
    parts = [f"at most {format_duration(objectives.rpo)} are lost"] if objectives.rpo else []
    parts += [f"a full restore takes at most {format_duration(objectives.rto)}"] if objectives.rto else []
    return f"{_listed(parts, 2)}." if parts else ""


def _checked(checks: tuple[Check, ...]) -> str:
    parts = []
    for check in checks:
        text = _listed([f"'{glob}'" for glob in check.paths], 3)
        if check.expectations:
            text += f" against {_listed(list(check.expectations), 3)}"
        if check.grows:
            text += f", losing at most {format_share(check.rows_tolerance)} of its rows since the snapshot before"
        parts.append(text)
    return _listed(parts, 4)


def _kept(keep: Keep | None) -> str:
    if keep is None:
        return "all snapshots, for ever."
    rules = []
    if keep.last:
        rules.append("the newest one" if keep.last == 1 else f"the newest {keep.last}")
    for rule in ("hourly", "daily", "weekly", "monthly", "yearly"):
        count = getattr(keep, rule)
        if count:
            rules.append(f"{count} {rule}")
    if keep.within:
        rules.append(f"all of the last {format_duration(keep.within)} before the newest")
    return f"{_listed(rules, len(rules))}; always the newest, the last proven one and those on hold."


def _listed(items: list[str], most: int, word: str = "and") -> str:
    if len(items) > most:
        items = [*items[:most], f"{len(items) - most} more"]
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {word} {items[-1]}"
