"""The parts of a policy about drills and objectives: how a restore is rehearsed, and how long one may take."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from moraine.model.cron import check_cron
from moraine.model.policy_types import Count, Duration, Part, Paths, Read, Size, key
from moraine.model.record import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample(Part):
    """Which files a sampled drill restores: drawn by weight, the longest stored ones more often."""

    files: Count = key(500, "most files", ge=1)
    bytes: Size = key(1 << 30, "most bytes", ge=1)
    value: dict[str, Annotated[float, Read(limits={"ge": 0, "le": 1000})]] = key(
        {}, "glob: weight; what several match takes the highest, what none matches has 1; 0 is never drawn"
    )
    age: bool = key(True, "weigh a file by how long its content has been stored unread")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place(Part):
    """The isolated place a drill restores into: a directory of its own under `path`, removed at the end."""

    path: str | None = key(
        None,
        "directory on a disk with room that every worker of the drill sees; default: the temporary one",
        min_length=1,
    )
    quota: Size = key(20 << 30, "most bytes a drill may restore", ge=1)
    expires: Duration = key(timedelta(days=1), "age at which what a dead drill left is removed by any other")


@dataclass(frozen=True, slots=True, kw_only=True)
class Application(Part):
    """What opens the restored data as its users do; it runs in the place, with a time limit."""

    command: Paths = key((), "program and arguments; `{root}` in them is the restored tree, in which it is started")
    callable: str | None = key(
        None,
        "package.module:function, called with the restored tree's path; False or an error fail it",
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
    )
    timeout: Duration = key(timedelta(minutes=10), "then it is killed with all it has started")

    def __post_init__(self) -> None:
        if bool(self.command) == bool(self.callable):
            raise ValueError("say either `command` or `callable`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials(Part):
    """What a drill opens the repository with, where that is not what backups use."""

    connection: str | None = key(None, "Airflow connection that holds the store's credentials")
    passphrase_file: str | None = key(None, "file with the passphrase or a generated key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill(Part):
    """How a restore is rehearsed: which snapshot, how much of it, where, and who opens it."""

    schedule: Annotated[str, Read(check=check_cron)] | None = key(
        "@weekly", "five cron fields or @weekly …; none: only when triggered"
    )
    pick: Literal["latest", "random", "stratified"] = key(
        "stratified", "the newest snapshot, any, or any of a group by age and size, the group first"
    )
    restore: Literal["whole", "sample"] = key("sample", "the whole snapshot, or a sample of its files")
    sample: Sample = key(Sample(), "which files a sample holds")
    parts: int = key(4, "most tasks that restore side by side", ge=1, le=100)
    place: Place = key(Place(), "where it is restored")
    run: Application | None = key(None, "what opens the restored data and answers for it")
    credentials: Credentials = key(Credentials(), "what the repository is opened with")
    seed: int | None = key(None, "draw the same snapshot and files every time; none: a new seed", ge=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objectives(Part):
    """What the business was promised."""

    rpo: Duration | None = key(None, "most age of the newest snapshot that is proven restorable")
    rto: Duration | None = key(None, "most time a full restore may take; a drill beyond it fails")
    recall: Duration = key(
        timedelta(0), "time the store needs to bring packs back from a cold tier; added to every forecast"
    )
    heartbeat: str | None = key(
        None,
        "URL fetched at every look at which all of this holds; a monitor there misses it otherwise",
        pattern=r"^https?://[^\s]+$",
    )
