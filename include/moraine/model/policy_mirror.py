"""The destination of a policy that keeps a mirror: a plain tree instead of a repository.

A mirror keeps what it knows of itself (log, inventories, reports) as an ordinary repository in a folder of the tree;
a policy that names a mirror therefore has a repository all the same, and every step finds its own.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

from pydantic import Field

from moraine.model.policy_types import Duration, Part

STATE = ".moraine"  # at the top of a mirror; never part of what is mirrored
_ADDRESS = ("endpoint_url", "region", "connection", "passphrase_file")


class Trash(Part):
    """What becomes of files that the mirror replaces or removes."""

    keep: Duration | None = Field(
        timedelta(days=30), description="how long they stay in the trash; empty: until somebody removes them"
    )


class Mirror(Part):
    """A plain tree with the same directories and files as the source."""

    kind: Literal["mirror"] = Field("mirror", description="a plain tree")
    url: str = Field(min_length=1, description="a path, file:///path or s3://bucket/prefix")
    endpoint_url: str | None = Field(None, description="address of an S3 server that is not AWS")
    region: str | None = Field(None, description="region of the bucket")
    connection: str | None = Field(None, description="Airflow connection that holds the store's credentials")
    passphrase_file: str | None = Field(
        None, description="seals the inventories, not the tree; a file that holds the passphrase"
    )
    trash: Trash = Field(Trash(), description="what becomes of files that are replaced or removed")
    drift: Literal["heal", "refuse"] = Field(
        "heal", description="what somebody else changed in the mirror: set right (theirs goes to the trash), or refuse"
    )
    must_be_mount: bool = Field(False, description="refuse to run unless `url` is a mount point")


def state_url(url: str) -> str:
    """Where the mirror at `url` keeps what it knows of itself."""
    return f"{url.rstrip('/')}/{STATE}"


def mirror_url(repository: str) -> str | None:
    """The mirror that a repository belongs to; None when it is an ordinary one."""
    return repository.removesuffix(f"/{STATE}") if repository.endswith(f"/{STATE}") else None


def with_state(data: Any) -> Any:
    """The data of a policy, with the repository that its mirror has; the source's own such folder is left out."""
    destination = data.get("destination") if isinstance(data, dict) else None
    if not isinstance(destination, dict):
        return data
    address = {name: destination[name] for name in _ADDRESS if name in destination}
    address["url"] = state_url(str(destination.get("url") or "mirror"))
    if data.get("repository", address) != address:
        raise ValueError("either `repository` or `destination`: a mirror keeps its own")
    source = data.get("source")
    if isinstance(source, dict) and isinstance(source.get("exclude", []), list | tuple):
        exclude = [glob for glob in source.get("exclude", []) if glob != f"/{STATE}"]
        source = source | {"exclude": [*exclude, f"/{STATE}"]}
    return data | {"repository": address, "source": source}


def either_destination(schema: dict[str, Any]) -> None:
    """In a file, a policy names a repository or a destination."""
    schema["required"] = [name for name in schema["required"] if name != "repository"]
    schema["oneOf"] = [{"required": ["repository"]}, {"required": ["destination"]}]
