"""What a policy may protect: the keys of `source`, one class for each kind of it.

Owns the names users write there. The descriptions are documentation, as in `policy_fields`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from moraine.model.policy_types import Duration, Part, Paths, Size


class Compare(Part):
    """What besides size and mtime tells that a file is unchanged since the parent snapshot."""

    ctime: bool = Field(True, description="compare the change time too; off for file systems that do not keep it")
    inode: bool = Field(
        True, description="compare the inode number too; off for file systems that renumber (FUSE, NFS)"
    )


class PosixSource(Part):
    """A directory tree of a POSIX file system."""

    kind: Literal["posix"] = "posix"
    path: str = Field(min_length=1, description="root of the tree; relative paths count from the policy file")
    exclude: tuple[str, ...] = Field((), description="globs in order, like .gitignore; a leading ! takes back in")
    iexclude: tuple[str, ...] = Field((), description="more globs, for which upper and lower case are the same")
    exclude_files: Paths = Field((), description="files that hold such globs, one per line")
    exclude_if_present: tuple[str, ...] = Field((), description="leave out directories that hold a file of this name")
    exclude_caches: bool = Field(False, description="leave out directories marked by CACHEDIR.TAG")
    exclude_larger_than: Size | None = Field(None, description="leave out larger files")
    one_file_system: bool = Field(False, description="do not cross mount points")
    must_be_mount: bool = Field(False, description="refuse to run unless `path` is a mount point")
    compare: Compare = Field(Compare(), description="how changes are detected")

    @property
    def history(self) -> bool:
        """Never: what is overwritten is gone."""
        return False

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return self.path

    @property
    def origin(self) -> str:
        """How snapshots name it."""
        return f"posix:{self.path}"


class S3Inventory(Part):
    """Lists of a bucket that S3 Inventory publishes."""

    url: str = Field(
        pattern=r"^s3://[^/]+/.*",
        description="s3://bucket/ and what the folders like 2026-01-31T00-00Z lie in (the newest counts), or the key "
        "of one manifest.json",
    )
    max_age: Duration = Field(
        timedelta(days=2), description="how much older than the window's end it may be; the run fails when it is older"
    )


class S3Source(Part):
    """A bucket, or the keys under a prefix of it."""

    kind: Literal["s3"] = Field(description="a source in S3")
    bucket: str = Field(min_length=1, description="its name")
    prefix: str = Field("", description="what the keys begin with; a slash is put at its end where there is none")
    endpoint_url: str | None = Field(None, description="address of an S3 server that is not AWS")
    region: str | None = Field(None, description="region of the bucket")
    connection: str | None = Field(None, description="Airflow connection that holds the credentials")
    history: bool = Field(
        False, description="read a bucket that keeps versions as it was at the end of each window, also long after it"
    )
    inventory: S3Inventory | None = Field(None, description="list the bucket by S3 Inventory instead of asking it")
    exclude: tuple[str, ...] = Field((), description="globs in order, like .gitignore; a leading ! takes back in")
    iexclude: tuple[str, ...] = Field((), description="more globs, for which upper and lower case are the same")
    exclude_files: Paths = Field((), description="files that hold such globs, one per line")
    exclude_larger_than: Size | None = Field(None, description="leave out larger objects")

    @property
    def compare(self) -> Compare:
        """Always ETag (as the inode), size and time."""
        return Compare()

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return f"s3://{self.bucket}/{self.prefix}".removesuffix("/") if self.prefix else f"s3://{self.bucket}"

    @property
    def origin(self) -> str:
        """How snapshots name it."""
        return self.place


def _kind_of(source: object) -> str:
    """The kind a source says it is of; a directory tree need not say so."""
    return str(source.get("kind", "posix") if isinstance(source, dict) else getattr(source, "kind", "posix"))


Source = Annotated[
    Annotated[PosixSource, Tag("posix")] | Annotated[S3Source, Tag("s3")],
    Discriminator(_kind_of),
]
