"""`moraine backup`: all steps of a run in this process, from listing to the committed snapshot."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from moraine.cli.context import Context
from moraine.cli.flags import size
from moraine.cli.progress import make_progress
from moraine.cli.text import pairs, plural
from moraine.errors import ConfigError

if TYPE_CHECKING:
    from moraine.model.policy import Policy
    from moraine.model.policy import PosixSource as Directory
    from moraine.model.policy import S3Source as Bucket
    from moraine.repository.repository import Repository
    from moraine.sources.posix import PosixSource
    from moraine.sources.s3 import S3Source
    from moraine.steps.commit import Committed

# flag → key of the policy's source
_SOURCE_FLAGS = {
    "exclude": ("--exclude", "GLOB", "leave out what matches; !GLOB takes back in; may be repeated"),
    "iexclude": ("--iexclude", "GLOB", "the same, ignoring case"),
    "exclude_files": ("--exclude-file", "FILE", "a file of such globs"),
    "exclude_if_present": ("--exclude-if-present", "NAME", "leave out directories that hold a file of this name"),
}
WORK_FILES = 16 << 20  # bytes in memory: those of 200,000 files in a first backup, of many more in a later one


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's own arguments."""
    parser.add_argument("source", nargs="?", metavar="SOURCE", help="the directory, or s3://bucket/prefix, to back up")
    parser.add_argument("--source-endpoint-url", metavar="URL", help="the S3 server of a source that is not in AWS")
    parser.add_argument("--source-region", metavar="NAME", help="the region of a source in S3")
    parser.add_argument(
        "--name", metavar="NAME", help="the policy its snapshots belong to (default: the directory's name)"
    )
    parser.add_argument(
        "--policy", metavar="FILE", help="take everything from a policy file instead of SOURCE and flags"
    )
    for key, (flag, metavar, text) in _SOURCE_FLAGS.items():
        parser.add_argument(flag, dest=key, action="append", metavar=metavar, help=text)
    parser.add_argument("--exclude-caches", action="store_true", help="leave out directories marked by CACHEDIR.TAG")
    parser.add_argument("--exclude-larger-than", type=size, metavar="SIZE", help="leave out larger files")
    parser.add_argument("--one-file-system", action="store_true", help="do not cross mount points")
    parser.add_argument(
        "--allow-change", action="store_true", help="accept an empty source or many deletions this once"
    )
    parser.add_argument("--prove", action="store_true", help="prove the snapshot afterwards (takes a few seconds more)")


def run(args: argparse.Namespace, context: Context) -> int:
    """Back up and print the snapshot; 3 when some files could not be read."""
    policy = _policy(args, context)
    if policy.destination:
        hint = f"`moraine mirror --policy {args.policy}` runs it"
        raise ConfigError(f"policy {policy.policy} keeps a mirror", hint=hint)
    _begin_aside(args, context, thread=False)
    from moraine.sources.posix import PosixSource
    from moraine.steps.source import open_source

    if policy.source.place.startswith("s3://"):  # to be asked over the network: the passphrase is stretched meanwhile
        _begin_aside(args, context)
    source = open_source(policy, environ=context.environ)
    facts = source.probe()  # a source that is missing is said before a passphrase is asked for
    whole = policy.shards.list == 1 and context.opens_silently(args, policy.repository)
    # This forks: before there is any thread, and before there is much memory to share.
    began = context.clock()
    with source.begun() if whole and isinstance(source, PosixSource) else nullcontext() as ahead:
        return _back_up(args, context, policy, source, facts.notes, began if ahead else None)


def _back_up(
    args: argparse.Namespace,
    context: Context,
    policy: Policy,
    source: PosixSource | S3Source,
    notes: Sequence[str],
    began: datetime | None,
) -> int:
    _begin_aside(args, context)
    from moraine.cli.holder import this_process
    from moraine.cli.metrics import tell_backup
    from moraine.steps.backup import backup
    from moraine.stores.memory import MemoryStore

    repository = context.open_policy_repository(args, policy)
    for note in [*notes, *_inside(policy.source.place, repository.store.url)]:
        context.out.note(f"note: {note}")
    opened = context.clock()
    committed = backup(
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
    )
    took = (context.clock() - opened).total_seconds()
    for remark in source.remarks():
        context.out.warn(f"note: {remark}")
    proven = _prove(repository, policy, committed.snapshot, context) if args.prove else None
    _show(context, policy, committed, took, proven)
    tell_backup(context, repository, policy, took)
    return committed.exit_code


def _begin_aside(args: argparse.Namespace, context: Context, *, thread: bool = True) -> None:
    if args.repo or args.source:  # else the policy file says where the repository is
        context.begin_aside(args, thread=thread)


def _policy(args: argparse.Namespace, context: Context) -> Policy:
    if bool(args.source) == bool(args.policy):
        raise ConfigError("name a directory, or a policy file with --policy", hint="for example `moraine backup docs`")
    excludes: dict[str, Any] = {key: tuple(value) for key in _SOURCE_FLAGS if (value := getattr(args, key))}
    excludes |= {key: True for key in ("exclude_caches", "one_file_system") if getattr(args, key)}
    excludes |= {"exclude_larger_than": args.exclude_larger_than} if args.exclude_larger_than is not None else {}
    if not args.policy:
        return _bare_policy(args, context, excludes)
    if excludes or args.name:
        raise ConfigError("--policy says everything about the source", hint="write the excludes into the policy file")
    from moraine.model.policy_file import load_policy

    return load_policy(args.policy)


def _bare_policy(args: argparse.Namespace, context: Context, excludes: dict[str, Any]) -> Policy:
    """The policy of a source that is named by itself; made without what reads files, which is slow to load."""
    from moraine.model.entry import display_path
    from moraine.model.policy import Policy, RepositoryAddress, check_name

    source = _s3_source(args, excludes) if args.source.startswith("s3://") else _directory(args, excludes)
    path = source.place.removeprefix("s3://")
    if not _is_text(path):
        raise ConfigError(
            f"the name of {display_path(os.fsencode(path))} is not UTF-8",
            hint="back up the directory above it: below a source names may be any bytes",
        )
    url = args.repo or context.environ.get("MORAINE_REPOSITORY")
    if not url:
        raise ConfigError("no repository is named", hint="give --repo URL or set MORAINE_REPOSITORY")
    try:
        name = check_name(args.name or policy_name(path))
    except ValueError as error:
        raise ConfigError(f"--name must be {error}, not {args.name!r}") from error
    return Policy(policy=name, source=source, repository=RepositoryAddress(url=url))


def _directory(args: argparse.Namespace, excludes: dict[str, Any]) -> Directory:
    from moraine.model.policy import PosixSource as Directory

    return Directory(path=os.path.abspath(args.source), **excludes)


def _s3_source(args: argparse.Namespace, excludes: dict[str, Any]) -> Bucket:
    """The source that s3://bucket/prefix names; what follows the bucket and a slash is the prefix, byte for byte."""
    from moraine.model.policy import S3Source as Bucket

    bucket, _, prefix = args.source.removeprefix("s3://").partition("/")
    if args.exclude_if_present or args.exclude_caches or args.one_file_system:
        raise ConfigError(
            "--exclude-if-present, --exclude-caches and --one-file-system are for directories",
            hint="a source in S3 takes --exclude, --iexclude, --exclude-file and --exclude-larger-than",
        )
    if not bucket or "@" in bucket:
        raise ConfigError(
            "a source in S3 is s3://bucket/prefix",
            hint="credentials come from a profile or AWS_* variables",
        )
    place = {"endpoint_url": args.source_endpoint_url, "region": args.source_region}
    return Bucket(kind="s3", bucket=bucket, prefix=prefix, **place, **excludes)


def _inside(source: str, repository: str) -> list[str]:
    """What to say of a repository that lies inside what is backed up."""
    if source.startswith("s3://"):
        inside = f"{repository}/".startswith(f"{source.rstrip('/')}/")
        return [f"the repository {repository} lies inside the source and is backed up with it: exclude it"] * inside
    inner, outer = os.path.realpath(repository.removeprefix("file://")), os.path.realpath(source)
    if "://" in repository.removeprefix("file://") or os.path.commonpath([inner, outer]) != outer:
        return []
    return [f"the repository {inner} lies inside the source and is backed up with it: exclude it"]


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def policy_name(path: str) -> str:
    """The name of the policy that a bare directory gets: its own, with odd letters replaced."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", os.path.basename(path)).strip("-._")
    return name[:100] or "root"


def _prove(repository: Repository, policy: Policy, snapshot: str, context: Context) -> dict[str, Any]:
    import tempfile
    from pathlib import Path

    from moraine.steps.prove import prove

    with tempfile.TemporaryDirectory(prefix="moraine-prove-") as scratch:
        proven = prove(
            repository,
            policy,
            snapshot,
            clock=context.clock,
            entropy=context.entropy,
            scratch=Path(scratch),
            progress=make_progress(context.out),
        )
    return asdict(proven)


def _show(context: Context, policy: Policy, committed: Committed, took: float, proven: dict[str, Any] | None) -> None:
    from moraine.model.units import format_size

    if context.out.as_json:
        content = asdict(committed) | {"policy": policy.policy, "seconds": round(took, 3)}
        context.out.json(content | ({"proven": proven} if proven else {}))
        return
    stored = f" ({format_size(committed.stored)} compressed and sealed)" if committed.added else ""
    rows = [
        ("snapshot", f"{committed.snapshot} of {policy.policy}"),
        ("holds", f"{plural(committed.files, 'file')}, {format_size(committed.bytes)}"),
        ("changed", plural(committed.changed, "entry", "entries")),
        ("added", format_size(committed.added) + stored),
    ]
    if committed.racy:
        rows.append(("racy", f"{plural(committed.racy, 'file')} changing just then: read again next time"))
    if committed.unreadable:
        unreadable = f"{plural(committed.unreadable, 'entry', 'entries')} could not be read: `moraine ls -l` shows them"
        if context.out.quiet:
            context.out.warn(unreadable)
        rows.append(("unreadable", unreadable))
    for note in committed.notes:
        if context.out.quiet:
            context.out.warn(note)
        rows.append(("warning", note))
    if proven:
        sampled = f"{plural(proven['sampled_files'], 'file')} restored and compared"
        rows.append(("proven", f"{plural(proven['expectations'], 'expectation')} hold, {sampled}"))
    rows.append(("took", f"{took:,.1f} s"))
    context.out.summary(pairs(rows))
