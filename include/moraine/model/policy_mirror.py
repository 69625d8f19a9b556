"""The destination of a policy that keeps a mirror: a plain tree instead of a repository.

A mirror keeps what it knows of itself (log, inventories, reports) as an ordinary repository in a folder of the tree;
a policy that names a mirror therefore has a repository all the same, and every step finds its own.
"""

from __future__ import annotations

from dataclasses import field
from datetime import timedelta
from typing import Any, Literal

from moraine.model.policy_types import Duration, Part, about, key
from moraine.model.record import dataclass

STATE = ".moraine"  # at the top of a mirror; never part of what is mirrored
_ADDRESS = ("endpoint_url", "region", "connection", "passphrase_file")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trash(Part):
    """What becomes of files that the mirror replaces or removes."""

    keep: Duration | None = key(
        timedelta(days=30), "how long they stay in the trash; empty: until somebody removes them"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror(Part):
    """A plain tree with the same directories and files as the source."""

    kind: Literal["mirror"] = key("mirror", "a plain tree")
    url: str = field(metadata=about("a path, file:///path or s3://bucket/prefix", min_length=1))
    endpoint_url: str | None = key(None, "address of an S3 server that is not AWS")
    region: str | None = key(None, "region of the bucket")
    connection: str | None = key(None, "Airflow connection that holds the store's credentials")
    passphrase_file: str | None = key(
        None, "seals the inventories, not the tree; a file with the passphrase or generated key"
    )
    trash: Trash = key(Trash(), "what becomes of files that are replaced or removed")
    drift: Literal["heal", "refuse"] = key(
        "heal", "what somebody else changed in the mirror: set right (theirs goes to the trash), or refuse"
    )
    must_be_mount: bool = key(False, "refuse to run unless `url` is a mount point")


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
