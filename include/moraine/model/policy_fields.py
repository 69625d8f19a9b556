"""The parts of a policy: every key a policy file may have, its type, default and meaning.

Owns the names users write, but for those of sources (`policy_sources`). Frozen pydantic models that refuse unknown
keys; nothing here reads a file or a clock. The descriptions are documentation: they become
`include/policies/schema.json` and with it the help of editors.
"""

from __future__ import annotations

import json
from datetime import date
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from blake3 import blake3
from pydantic import ConfigDict, Field, field_validator, model_validator

from moraine.errors import UnsafeRetention
from moraine.model.cron import check_cron
from moraine.model.policy_checks import Check
from moraine.model.policy_drill import Drill, Objectives
from moraine.model.policy_mirror import Mirror, either_destination, with_state
from moraine.model.policy_sources import Source
from moraine.model.policy_types import Count, Duration, Name, Part, Paths, Seconds, Share, Size


class RepositoryAddress(Part):
    """Where the snapshots go. Secrets are referred to, never written here."""

    url: str = Field(min_length=1, description="a path, file:///path or s3://bucket/prefix")
    endpoint_url: str | None = Field(None, description="address of an S3 server that is not AWS")
    region: str | None = Field(None, description="region of the bucket")
    connection: str | None = Field(None, description="Airflow connection that holds the store's credentials")
    passphrase_file: str | None = Field(
        None, description="file that holds the passphrase; a newline at its end does not count"
    )


class Schedule(Part):
    """When the policy runs."""

    cron: str | None = Field(None, description="five cron fields or @daily, @hourly …; none: only when triggered")
    timezone: str = Field("UTC", description="IANA name; windows and retention days are counted in it")
    catchup: bool = Field(False, description="run windows that were missed while Airflow was down")
    start: date | None = Field(None, description="first day; default: the day the policy is deployed")
    late: Literal["capture", "skip", "fail"] = Field(
        "capture", description="a run after its window's end: capture now and say so, skip the window, or fail"
    )

    @field_validator("cron")
    @classmethod
    def _cron(cls, value: str | None) -> str | None:
        return None if value is None else check_cron(value)

    @field_validator("timezone")
    @classmethod
    def _timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError("an IANA time zone such as Europe/Berlin or UTC") from error
        return value

    @model_validator(mode="after")
    def _catches_up_from_somewhere(self) -> Schedule:
        if self.catchup and self.start is None:
            raise ValueError("`catchup` needs a `start`: the day of the first window to catch up")
        return self


class Compression(Part):
    """How content is compressed."""

    level: int = Field(2, ge=1, le=19, description="zstd level; content that does not shrink is stored raw")


class Limits(Part):
    """How much of the source may be unreadable before the run fails instead of committing with exit code 3."""

    unreadable_files: Count | None = Field(None, description="most unreadable files; none: no such limit")
    unreadable_share: Share = Field(0.1, description="most unreadable files as a share of all")


class Gate(Part):
    """What a change set must look like to be copied: guards against accidents and ransomware."""

    allow_empty: bool = Field(False, description="accept a source without any file")
    max_deleted_share: Share = Field(0.5, description="most deleted files as a share of the parent snapshot's files")
    max_deleted_files: Count | None = Field(None, description="most deleted files")
    max_changed_share: Share | None = Field(None, description="most modified files as a share of the parent's files")
    min_files_for_shares: Count = Field(100, description="shares are not looked at below this number of files")
    canaries: Paths = Field((), description="files, relative to the root, that must be there and never change")


class Verify(Part):
    """How what was just written is read back before it is committed."""

    depth: Literal["structure", "sample", "full"] = Field(
        "sample", description="structure: sizes and trailers; sample: also hash a share of the chunks; full: hash all"
    )
    share: Share = Field(0.05, description="share of the chunks that `sample` reads back")


class Prove(Part):
    """How a committed snapshot is proven to be restorable."""

    sample_files: Count = Field(20, description="files restored and compared by hash")
    sample_bytes: Size = Field(256 << 20, description="most bytes restored for the sample")


class Keep(Part):
    """Which snapshots `retain` keeps; everything a rule names is kept, the newest and the last proven always are."""

    last: Count | None = Field(None, description="the newest N")
    hourly: Count | None = Field(None, description="the newest of each of the N latest hours that have one")
    daily: Count | None = Field(None, description="the newest of each of the N latest days that have one")
    weekly: Count | None = Field(None, description="the newest of each of the N latest ISO weeks that have one")
    monthly: Count | None = Field(None, description="the newest of each of the N latest months that have one")
    yearly: Count | None = Field(None, description="the newest of each of the N latest years that have one")
    within: Duration | None = Field(None, description="all whose window ends within this long before the newest's")

    @model_validator(mode="after")
    def _not_empty(self) -> Keep:
        if not any(value for value in self.__dict__.values()):
            raise UnsafeRetention(
                "keep has no rule that keeps a snapshot",
                hint="give at least one of last, hourly, daily, weekly, monthly, yearly, within; "
                "leave `keep` out to keep everything",
            )
        return self


class Shards(Part):
    """How a run is cut into tasks that run side by side."""

    list: Annotated[int, Field(ge=1, le=1000)] = Field(1, description="parts the listing is split into")
    copy_bytes: Annotated[Size, Field(ge=1)] = Field(4 << 30, description="bytes one copy shard should read")
    copy_files: Annotated[int, Field(ge=1)] = Field(100_000, description="files one copy shard should read")
    most: Annotated[int, Field(ge=1, le=1000)] = Field(32, description="most copy shards")


class Notify(Part):
    """Who is told when a run has failed: by mail, or by another notifier of an Airflow provider."""

    email: tuple[Annotated[str, Field(pattern=r"^[^@\s{}]+@[^@\s{}]+$")], ...] = Field(
        (), description="addresses that get a mail, by the Airflow connection smtp_default"
    )
    # Policies are configuration, not code: what they can name is limited to what Airflow's providers bring.
    notifier: Annotated[str, Field(pattern=r"^airflow\.providers(\.[a-z_][a-z0-9_]*)+\.[A-Z]\w*Notifier$")] | None = (
        Field(None, description="import path of a provider's notifier, instead of `email`")
    )
    arguments: dict[str, str | int | bool | list[str]] = Field({}, description="what that notifier is made with")
    on: tuple[Literal["failure", "objective", "digest"], ...] = Field(
        ("failure", "objective"),
        min_length=1,
        description="failure: of a run; objective: rpo or rto missed, and met again; digest: the week, every Monday",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Notify:
        if bool(self.email) == bool(self.notifier):
            raise ValueError("say either `email` or `notifier`")
        if self.arguments and not self.notifier:
            raise ValueError("`arguments` belong to a `notifier`")
        return self


class Policy(Part):
    """What is protected, when, for how long and how it is proven."""

    model_config = ConfigDict(json_schema_extra=either_destination)

    policy: Name = Field(description="the policy's name: letters, digits, '.', '_' and '-'; also the id of its DAG")
    description: str = Field("", description="what this is, for people")
    owner: str | None = Field(None, description="who answers for it")
    tags: tuple[str, ...] = Field((), description="labels of the DAG in Airflow")
    source: Source = Field(description="what is protected")
    repository: RepositoryAddress = Field(description="where the snapshots go; of a mirror, what it knows of itself")
    destination: Mirror | None = Field(None, description="instead of `repository`: a plain tree, kept like the source")
    schedule: Schedule | None = Field(None, description="when it runs; none: only when triggered")
    compression: Compression = Field(Compression(), description="how content is compressed")
    rehash: Share = Field(0.001, description="share of the unchanged files that every run reads again and compares")
    racy_window: Seconds = Field(
        1.0, description="a file that changed this shortly before it was listed counts as changed"
    )
    limits: Limits = Field(Limits(), description="how much may be unreadable")
    gate: Gate = Field(Gate(), description="guards before anything is copied")
    verify: Verify = Field(Verify(), description="how written data is read back before the commit")
    prove: Prove = Field(Prove(), description="how a snapshot is proven after the commit")
    drill: Drill = Field(Drill(), description="how a restore is rehearsed")
    objectives: Objectives = Field(Objectives(), description="how old and how slow a recovery may be")
    checks: tuple[Check, ...] = Field((), description="what a drill holds restored data against, by path")
    keep: Keep | None = Field(None, description="which snapshots are kept; none: all of them, for ever")
    shards: Shards = Field(Shards(), description="how a run is cut into tasks")
    notify: tuple[Notify, ...] = Field((), description="who is told when a run has failed or an objective is missed")

    @model_validator(mode="before")
    @classmethod
    def _mirror(cls, data: Any) -> Any:
        return with_state(data)

    @property
    def digest(self) -> str:
        """BLAKE3 of the resolved policy as canonical JSON, hex: recorded in every snapshot."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return blake3(text.encode()).hexdigest()

    def explain(self) -> str:
        """The policy in English: what, when, how long, how proven."""
        from moraine.model.policy_text import explain

        return explain(self)
