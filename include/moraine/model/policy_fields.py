"""The parts of a policy: every key a policy file may have, its type, default and meaning.

Owns the names users write, but for those of sources (`policy_sources`). Frozen dataclasses; nothing here reads a
file or a clock. The descriptions are documentation: they become
`include/policies/schema.json` and with it the help of editors.
"""

from __future__ import annotations

import json
from dataclasses import field
from datetime import date
from typing import Annotated, Literal

from blake3 import blake3

from moraine.errors import UnsafeRetention
from moraine.model.cron import check_cron
from moraine.model.policy_checks import Check
from moraine.model.policy_drill import Drill, Objectives
from moraine.model.policy_mirror import Mirror
from moraine.model.policy_sources import Source
from moraine.model.policy_types import (
    Count,
    Duration,
    Name,
    Part,
    Paths,
    Read,
    Seconds,
    Share,
    Size,
    about,
    key,
    plain,
)
from moraine.model.record import dataclass


def _timezone(value: str) -> str:
    from zoneinfo import ZoneInfo  # a policy that was not written down has none

    try:
        ZoneInfo(value)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError("an IANA time zone such as Europe/Berlin or UTC") from error
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryAddress(Part):
    """Where the snapshots go. Secrets are referred to, never written here."""

    url: str = field(metadata=about("a path, file:///path or s3://bucket/prefix", min_length=1))
    endpoint_url: str | None = key(None, "address of an S3 server that is not AWS")
    region: str | None = key(None, "region of the bucket")
    connection: str | None = key(None, "Airflow connection that holds the store's credentials")
    passphrase_file: str | None = key(
        None, "file with the passphrase (a newline at its end does not count) or a generated key"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule(Part):
    """When the policy runs."""

    cron: Annotated[str, Read(check=check_cron)] | None = key(
        None, "five cron fields or @daily, @hourly …; none: only when triggered"
    )
    timezone: Annotated[str, Read(check=_timezone)] = key(
        "UTC", "IANA name; windows and retention days are counted in it"
    )
    catchup: bool = key(False, "run windows that were missed while Airflow was down")
    start: date | None = key(None, "first day; default: the day the policy is deployed")
    late: Literal["capture", "skip", "fail"] = key(
        "capture", "a run after its window's end: capture now and say so, skip the window, or fail"
    )

    def __post_init__(self) -> None:
        if self.catchup and self.start is None:
            raise ValueError("`catchup` needs a `start`: the day of the first window to catch up")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression(Part):
    """How content is compressed."""

    level: int = key(2, "zstd level; content that does not shrink is stored raw", ge=1, le=19)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits(Part):
    """How much of the source may be unreadable before the run fails instead of committing with exit code 3."""

    unreadable_files: Count | None = key(None, "most unreadable files; none: no such limit")
    unreadable_share: Share = key(0.1, "most unreadable files as a share of all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate(Part):
    """What a change set must look like to be copied: guards against accidents and ransomware."""

    allow_empty: bool = key(False, "accept a source without any file")
    max_deleted_share: Share = key(0.5, "most deleted files as a share of the parent snapshot's files")
    max_deleted_files: Count | None = key(None, "most deleted files")
    max_changed_share: Share | None = key(None, "most modified files as a share of the parent's files")
    min_files_for_shares: Count = key(100, "shares are not looked at below this number of files")
    canaries: Paths = key((), "files, relative to the root, that must be there and never change")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify(Part):
    """How what was just written is read back before it is committed."""

    depth: Literal["structure", "sample", "full"] = key(
        "sample", "structure: sizes and trailers; sample: also hash a share of the chunks; full: hash all"
    )
    share: Share = key(0.05, "share of the chunks that `sample` reads back")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prove(Part):
    """How a committed snapshot is proven to be restorable."""

    sample_files: Count = key(20, "files restored and compared by hash")
    sample_bytes: Size = key(256 << 20, "most bytes restored for the sample")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep(Part):
    """Which snapshots `retain` keeps; everything a rule names is kept, the newest and the last proven always are."""

    last: Count | None = key(None, "the newest N")
    hourly: Count | None = key(None, "the newest of each of the N latest hours that have one")
    daily: Count | None = key(None, "the newest of each of the N latest days that have one")
    weekly: Count | None = key(None, "the newest of each of the N latest ISO weeks that have one")
    monthly: Count | None = key(None, "the newest of each of the N latest months that have one")
    yearly: Count | None = key(None, "the newest of each of the N latest years that have one")
    within: Duration | None = key(None, "all whose window ends within this long before the newest's")

    def __post_init__(self) -> None:
        if not any(plain(self).values()):
            raise UnsafeRetention(
                "keep has no rule that keeps a snapshot",
                hint="give at least one of last, hourly, daily, weekly, monthly, yearly, within; "
                "leave `keep` out to keep everything",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shards(Part):
    """How a run is cut into tasks that run side by side."""

    list: int = key(1, "parts the listing is split into", ge=1, le=1000)
    copy_bytes: Size = key(4 << 30, "bytes one copy shard should read", ge=1)
    copy_files: int = key(100_000, "files one copy shard should read", ge=1)
    most: int = key(32, "most copy shards", ge=1, le=1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify(Part):
    """Who is told when a run has failed: by mail, or by another notifier of an Airflow provider."""

    email: tuple[Annotated[str, Read(limits={"pattern": r"^[^@\s{}]+@[^@\s{}]+$"})], ...] = key(
        (), "addresses that get a mail, by the Airflow connection smtp_default"
    )
    # Policies are configuration, not code: what they can name is limited to what Airflow's providers bring.
    notifier: str | None = key(
        None,
        "import path of a provider's notifier, instead of `email`",
        pattern=r"^airflow\.providers(\.[a-z_][a-z0-9_]*)+\.[A-Z]\w*Notifier$",
    )
    arguments: dict[str, str | int | bool | list[str]] = key({}, "what that notifier is made with")
    on: tuple[Literal["failure", "objective", "digest"], ...] = key(
        ("failure", "objective"),
        "failure: of a run; objective: rpo or rto missed, and met again; digest: the week, every Monday",
        min_length=1,
    )

    def __post_init__(self) -> None:
        if bool(self.email) == bool(self.notifier):
            raise ValueError("say either `email` or `notifier`")
        if self.arguments and not self.notifier:
            raise ValueError("`arguments` belong to a `notifier`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy(Part):
    """What is protected, when, for how long and how it is proven."""

    policy: Name = field(metadata=about("the policy's name: letters, digits, '.', '_' and '-'; also the id of its DAG"))
    description: str = key("", "what this is, for people")
    owner: str | None = key(None, "who answers for it")
    tags: tuple[str, ...] = key((), "labels of the DAG in Airflow")
    source: Source = field(metadata=about("what is protected"))
    repository: RepositoryAddress = field(
        metadata=about("where the snapshots go; of a mirror, what it knows of itself")
    )
    destination: Mirror | None = key(None, "instead of `repository`: a plain tree, kept like the source")
    schedule: Schedule | None = key(None, "when it runs; none: only when triggered")
    compression: Compression = key(Compression(), "how content is compressed")
    rehash: Share = key(0.001, "share of the unchanged files that every run reads again and compares")
    racy_window: Seconds = key(1.0, "a file that changed this shortly before it was listed counts as changed")
    limits: Limits = key(Limits(), "how much may be unreadable")
    gate: Gate = key(Gate(), "guards before anything is copied")
    verify: Verify = key(Verify(), "how written data is read back before the commit")
    prove: Prove = key(Prove(), "how a snapshot is proven after the commit")
    drill: Drill = key(Drill(), "how a restore is rehearsed")
    objectives: Objectives = key(Objectives(), "how old and how slow a recovery may be")
    checks: tuple[Check, ...] = key((), "what a drill holds restored data against, by path")
    keep: Keep | None = key(None, "which snapshots are kept; none: all of them, for ever")
    shards: Shards = key(Shards(), "how a run is cut into tasks")
    notify: tuple[Notify, ...] = key((), "who is told when a run has failed or an objective is missed")

    @property
    def digest(self) -> str:
        """BLAKE3 of the resolved policy as canonical JSON, hex: recorded in every snapshot."""
        text = json.dumps(plain(self), sort_keys=True, separators=(",", ":"))
        return blake3(text.encode()).hexdigest()

    def explain(self) -> str:
        """The policy in English: what, when, how long, how proven."""
        from moraine.model.policy_text import explain

        return explain(self)
