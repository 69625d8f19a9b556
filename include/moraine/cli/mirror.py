"""`moraine mirror`: keep a plain tree like its source, all steps of a run in this process."""

from __future__ import annotations

import argparse
import os
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from moraine.cli.backup import WORK_FILES, policy_name
from moraine.cli.context import Context
from moraine.cli.flags import duration
from moraine.cli.progress import make_progress
from moraine.cli.text import pairs, plural
from moraine.errors import ConfigError

if TYPE_CHECKING:
    from datetime import datetime

    from moraine.model.policy import Policy, RepositoryAddress
    from moraine.sources.base import Source
    from moraine.sources.mirror import Mirror
    from moraine.steps.mirror import Mirrored
    from moraine.stores.base import Store

_SHOWN = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's own arguments."""
    add = parser.add_argument
    add("source", nargs="?", metavar="SOURCE", help="the directory, or s3://bucket/prefix, to mirror")
    add("to", nargs="?", metavar="DEST", help="the directory, or s3://bucket/prefix, that becomes like it")
    add("--policy", metavar="FILE", help="take everything from a policy file with a `destination`")
    add("--source-endpoint-url", metavar="URL", help="the S3 server of a source that is not in AWS")
    add("--name", metavar="NAME", help="the policy its snapshots belong to (default: the source's name)")
    add("--exclude", action="append", metavar="GLOB", help="leave out what matches; !GLOB takes back in")
    add("--trash-keep", type=duration, metavar="TIME", help="how long replaced and removed files stay (default: 30d)")
    add("--drift", choices=("heal", "refuse"), help="what somebody else changed in DEST (default: heal)")
    add("--verify", choices=("structure", "sample", "full"), help="how much is read back (default: sample)")
    add("--adopt", action="store_true", help="take over a DEST that holds something and is no mirror yet")
    add("--allow-change", action="store_true", help="let through what the gate refuses, this once")


def run(args: argparse.Namespace, context: Context) -> int:
    """Mirror and say what was done; 3 when some files could not be read, or not be written as they are."""
    policy = _policy(args, context)
    if policy.destination is None:
        raise ConfigError(f"policy {policy.policy} has no `destination`", hint="`moraine backup --policy` runs it")
    from moraine.sources.posix import PosixSource
    from moraine.steps.source import open_source

    source = open_source(policy, environ=context.environ)
    for note in source.probe().notes:
        context.out.note(f"note: {note}")
    began = context.clock()
    # This forks: before there is any thread, and before there is much memory to share.
    early = source.begun() if policy.shards.list == 1 and isinstance(source, PosixSource) else nullcontext()
    with early as ahead:
        return _mirror(args, context, policy, source, began if ahead else None)


def _mirror(args: argparse.Namespace, context: Context, policy: Policy, source: Source, began: datetime | None) -> int:
    from moraine.cli.holder import this_process
    from moraine.steps.mirror import mirror, open_state
    from moraine.steps.mirror_place import open_mirror
    from moraine.stores.memory import MemoryStore

    address = policy.repository
    destination = open_mirror(policy, environ=context.environ)
    assert destination
    secret = args.passphrase_file or address.passphrase_file
    repository = open_state(
        _store(address, context),
        (lambda: context.passphrase(secret)) if secret else None,
        destination,
        clock=context.clock,
        entropy=context.entropy,
        adopt=args.adopt,
        create=not args.policy,
    )
    context.loaded()
    opened = context.clock()
    done = mirror(
        repository,
        policy,
        source,
        clock=context.clock,
        entropy=context.entropy,
        holder=this_process(),
        work=MemoryStore(most=WORK_FILES),
        began=began,
        progress=make_progress(context.out),
        ignore_gate=args.allow_change,
        processes=_processes(source, destination, context),
    )
    _show(context, source.remarks(), destination.url, done, (context.clock() - opened).total_seconds())
    return done.exit_code


def _processes(source: Source, destination: Mirror, context: Context) -> int:
    """As many as there are cores between two directories; S3 is waited for in threads."""
    from moraine.sources.posix import PosixSource
    from moraine.sources.posix_mirror import PosixMirror

    return context.cores() if isinstance(source, PosixSource) and isinstance(destination, PosixMirror) else 1


def _store(address: RepositoryAddress, context: Context) -> Store:
    from moraine.stores.open import open_store

    return open_store(address.url, endpoint_url=address.endpoint_url, region=address.region, environ=context.environ)


def _policy(args: argparse.Namespace, context: Context) -> Policy:
    from moraine.model.policy_file import load_policy, validate_policy

    if args.policy:
        if args.source:
            raise ConfigError("--policy says everything", hint="leave SOURCE and DEST out")
        return load_policy(args.policy)
    if not args.source or not args.to:
        raise ConfigError("name a source and where its mirror is", hint="for example `moraine mirror docs /mnt/docs`")
    source: dict[str, Any] = {"path": os.path.abspath(args.source)}
    if args.source.startswith("s3://"):
        bucket, _, prefix = args.source.removeprefix("s3://").partition("/")
        source = {"kind": "s3", "bucket": bucket, "prefix": prefix, "endpoint_url": args.source_endpoint_url}
    destination: dict[str, Any] = {
        "url": args.to if "://" in args.to else os.path.abspath(args.to),
        "endpoint_url": args.endpoint_url,
        "region": args.region,
    }
    if args.trash_keep is not None:
        destination["trash"] = {"keep": args.trash_keep}
    if args.drift:
        destination["drift"] = args.drift
    fields: dict[str, Any] = {"verify": {"depth": args.verify}} if args.verify else {}
    source |= {"exclude": args.exclude} if args.exclude else {}
    name = args.name or policy_name(args.source.rstrip("/"))
    return validate_policy(fields | {"policy": name, "source": source, "destination": destination}, "--name")


def _show(context: Context, remarks: tuple[str, ...], url: str, done: Mirrored, took: float) -> None:
    from moraine.model.units import format_size
    from moraine.steps.mirror_diff import drift_sentence

    for remark in remarks:
        context.out.warn(f"note: {remark}")
    if context.out.as_json:
        context.out.json(asdict(done) | {"destination": url, "seconds": round(took, 3)})
        return
    committed = done.committed
    drift = drift_sentence(done.drift)
    if drift:
        context.out.warn(f"drift: somebody else had changed the mirror, set right now: {drift}")
    for code, count in done.notes.items():
        shown = [item for item in done.named if item["code"] == code][:_SHOWN]
        for item in shown:
            context.out.warn(f"{code}: {item['path']}: {item['message']}")
        if count > len(shown):
            context.out.warn(f"{code}: {count - len(shown):,} more")
    rows = [
        ("mirror", url),
        ("snapshot", committed.snapshot),
        ("holds", f"{plural(committed.files, 'file')}, {format_size(committed.bytes)}"),
        ("changed", plural(committed.changed, "entry", "entries")),
        ("written", format_size(committed.added)),
    ]
    if done.removed:
        rows.append(("removed", f"{plural(done.removed, 'entry', 'entries')}, now in the trash"))
    if done.only_listed:
        only = plural(done.only_listed, "entry", "entries")
        rows.append(
            ("only listed", f"{only} that a bucket cannot hold: the inventory has them, restore brings them back")
        )
    if committed.unreadable:
        rows.append(("unreadable", f"{plural(committed.unreadable, 'entry', 'entries')}: `moraine ls -l` shows them"))
    if done.purged:
        rows.append(("purged", plural(len(done.purged), "trash", "trashes")))
    rows.append(("took", f"{took:,.1f} s"))
    context.out.summary(pairs(rows))
