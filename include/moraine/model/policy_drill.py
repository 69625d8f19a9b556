"""The parts of a policy about drills and objectives: how a restore is rehearsed, and how long one may take."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from moraine.model.cron import check_cron
from moraine.model.policy_types import Count, Duration, Part, Size


class Sample(Part):
    """Which files a sampled drill restores: drawn by weight, the longest stored ones more often."""

    files: Annotated[Count, Field(ge=1)] = Field(500, description="most files")
    bytes: Annotated[Size, Field(ge=1)] = Field(1 << 30, description="most bytes")
    value: dict[str, Annotated[float, Field(ge=0, le=1000)]] = Field(
        {}, description="glob: weight; what several match takes the highest, what none matches has 1; 0 is never drawn"
    )
    age: bool = Field(True, description="weigh a file by how long its content has been stored unread")


class Place(Part):
    """The isolated place a drill restores into: a directory of its own under `path`, removed at the end."""

    path: str | None = Field(
        None,
        min_length=1,
        description="directory on a disk with room that every worker of the drill sees; default: the temporary one",
    )
    quota: Annotated[Size, Field(ge=1)] = Field(20 << 30, description="most bytes a drill may restore")
    expires: Duration = Field(
        "1d", validate_default=True, description="age at which what a dead drill left is removed by any other"
    )


class Application(Part):
    """What opens the restored data as its users do; it runs in the place, with a time limit."""

    command: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description="program and arguments; `{root}` in them is the restored tree, in which it is started"
    )
    callable: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None = Field(
        None, description="package.module:function, called with the restored tree's path; False or an error fail it"
    )
    timeout: Duration = Field("10min", validate_default=True, description="then it is killed with all it has started")

    @model_validator(mode="after")
    def _one_way(self) -> Application:
        if bool(self.command) == bool(self.callable):
            raise ValueError("say either `command` or `callable`")
        return self


class Credentials(Part):
    """What a drill opens the repository with, where that is not what backups use."""

    connection: str | None = Field(None, description="Airflow connection that holds the store's credentials")
    passphrase_file: str | None = Field(None, description="file that holds the passphrase")


class Drill(Part):
    """How a restore is rehearsed: which snapshot, how much of it, where, and who opens it."""

    schedule: str | None = Field("@weekly", description="five cron fields or @weekly …; none: only when triggered")
    pick: Literal["latest", "random", "stratified"] = Field(
        "stratified", description="the newest snapshot, any, or any of a group by age and size, the group first"
    )
    restore: Literal["whole", "sample"] = Field("sample", description="the whole snapshot, or a sample of its files")
    sample: Sample = Field(Sample(), description="which files a sample holds")
    parts: Annotated[int, Field(ge=1, le=100)] = Field(4, description="most tasks that restore side by side")
    place: Place = Field(Place(), description="where it is restored")
    run: Application | None = Field(None, description="what opens the restored data and answers for it")
    credentials: Credentials = Field(Credentials(), description="what the repository is opened with")
    seed: int | None = Field(None, ge=0, description="draw the same snapshot and files every time; none: a new seed")

    @field_validator("schedule")
    @classmethod
    def _schedule(cls, value: str | None) -> str | None:
        return None if value is None else check_cron(value)


class Objectives(Part):
    """What the business was promised."""

    rpo: Duration | None = Field(None, description="most age of the newest snapshot that is proven restorable")
    rto: Duration | None = Field(None, description="most time a full restore may take; a drill beyond it fails")
    recall: Duration = Field(
        "0s",
        validate_default=True,
        description="time the store needs to bring packs back from a cold tier; added to every forecast",
    )
