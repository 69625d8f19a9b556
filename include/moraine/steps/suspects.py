"""Which files a backup reads again because a proof or drill found them wrong; until then no stored chunk is trusted.

A failure counts until a snapshot has been begun after it: that run has read the files again. Reports name the paths
under `again`; reading them is left to `diff`, which alone needs them.
"""

from __future__ import annotations

from urllib.parse import quote_from_bytes, unquote_to_bytes

import pyarrow as pa

from moraine.engine.retention import is_failed
from moraine.model.snapshot import SnapshotRecord
from moraine.repository import layout
from moraine.repository.repository import Repository

MOST = 100_000  # paths that a report names; beyond them all files are read again
EVERYTHING = "*"  # stands for all of them in a report; a path never is this: quoting turns it into %2A

_KINDS = ("prove", "drills")


def named_again(paths: list[bytes]) -> list[str]:
    """The form in which a report names files that have to be read again."""
    return [quote_from_bytes(path) for path in paths] if len(paths) <= MOST else [EVERYTHING]


def unhealed(repository: Repository, policy: str, parent: str | None) -> list[SnapshotRecord]:
    """Snapshots of a policy that have failed since its parent snapshot was begun."""
    records = repository.state.snapshots
    if parent not in records:
        return []
    since = records[parent].captured_at
    return [r for r in repository.state.live(policy) if is_failed(r) and r.failed and r.failed > since]


def paths_again(repository: Repository, policy: str, parent: str | None) -> pa.Array | None:
    """The files to be read again, sorted; empty when none are, None when all of them are."""
    found: set[str] = set()
    for record in unhealed(repository, policy, parent):
        for kind in _KINDS:
            for info in repository.store.list(layout.report(f"{kind}/{record.id}/")):
                if info.key.endswith(".json"):
                    found.update(repository.load_report(info.key).get("again", ()))
    if EVERYTHING in found:
        return None
    return pa.array(sorted(map(unquote_to_bytes, found)), pa.binary())
