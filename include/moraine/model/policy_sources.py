"""What a policy may protect: the keys of `source`, one class for each kind of it.

Owns the names users write there. The descriptions are documentation, as in `policy_fields`.
"""

from __future__ import annotations

from dataclasses import field
from datetime import timedelta
from typing import Annotated, Any, Literal

from moraine.model.policy_types import Duration, Part, Paths, Size, about, key
from moraine.model.record import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Compare(Part):
    """What besides size and mtime tells that a file is unchanged since the parent snapshot."""

    ctime: bool = key(True, "compare the change time too; off for file systems that do not keep it")
    inode: bool = key(True, "compare the inode number too; off for file systems that renumber (FUSE, NFS)")


@dataclass(frozen=True, slots=True, kw_only=True)
class PosixSource(Part):
    """A directory tree of a POSIX file system."""

    kind: Literal["posix"] = "posix"
    path: str = field(metadata=about("root of the tree; relative paths count from the policy file", min_length=1))
    exclude: tuple[str, ...] = key((), "globs in order, like .gitignore; a leading ! takes back in")
    iexclude: tuple[str, ...] = key((), "more globs, for which upper and lower case are the same")
    exclude_files: Paths = key((), "files that hold such globs, one per line")
    exclude_if_present: tuple[str, ...] = key((), "leave out directories that hold a file of this name")
    exclude_caches: bool = key(False, "leave out directories marked by CACHEDIR.TAG")
    exclude_larger_than: Size | None = key(None, "leave out larger files")
    one_file_system: bool = key(False, "do not cross mount points")
    must_be_mount: bool = key(False, "refuse to run unless `path` is a mount point")
    compare: Compare = key(Compare(), "how changes are detected")

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


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Inventory(Part):
    """Lists of a bucket that S3 Inventory publishes."""

    url: str = field(
        metadata=about(
            "s3://bucket/ and what the folders like 2026-01-31T00-00Z lie in (the newest counts), or the key "
            "of one manifest.json",
            pattern=r"^s3://[^/]+/.*",
        )
    )
    max_age: Duration = key(
        timedelta(days=2), "how much older than the window's end it may be; the run fails when it is older"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Source(Part):
    """A bucket, or the keys under a prefix of it."""

    kind: Literal["s3"] = field(metadata=about("a source in S3"))
    bucket: str = field(metadata=about("its name", min_length=1))
    prefix: str = key("", "what the keys begin with; a slash is put at its end where there is none")
    endpoint_url: str | None = key(None, "address of an S3 server that is not AWS")
    region: str | None = key(None, "region of the bucket")
    connection: str | None = key(None, "Airflow connection that holds the credentials")
    history: bool = key(
        False, "read a bucket that keeps versions as it was at the end of each window, also long after it"
    )
    inventory: S3Inventory | None = key(None, "list the bucket by S3 Inventory instead of asking it")
    exclude: tuple[str, ...] = key((), "globs in order, like .gitignore; a leading ! takes back in")
    iexclude: tuple[str, ...] = key((), "more globs, for which upper and lower case are the same")
    exclude_files: Paths = key((), "files that hold such globs, one per line")
    exclude_larger_than: Size | None = key(None, "leave out larger objects")

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


class _ByKind:
    """Chooses among the kinds of sources: in an annotation, for pydantic."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic import Discriminator, Tag

        kinds = Annotated[PosixSource, Tag("posix")] | Annotated[S3Source, Tag("s3")]
        return handler.generate_schema(Annotated[kinds, Discriminator(_kind_of)])


Source = Annotated[PosixSource | S3Source, _ByKind()]
