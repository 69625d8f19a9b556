"""What differs between two snapshots: a columnar merge of their manifests; only differing rows become objects.

Compared is what a restore brings back: kind, content, symlink target, device number, mode, owner, mtime, extended
attributes. Inode numbers and change times belong to the source, not to the data, and are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from moraine.engine.rows import Cursor, aligned, match
from moraine.model import compute as pc
from moraine.model.entry import row_key
from moraine.model.record import dataclass
from moraine.report.entries import COLUMNS, Entry, iter_entries
from moraine.repository.manifest import Manifest

Mask = npt.NDArray[np.bool_]

_CONTENT = ("kind", "size", "digest", "target", "rdev")
_METADATA = ("mode", "uid", "gid", "mtime", "mtime_ns", "xattrs")


@dataclass(frozen=True, slots=True)
class Difference:
    """One path that differs: `added`, `removed`, `modified` (content) or `metadata`."""

    change: str
    old: Entry | None
    new: Entry | None

    @property
    def entry(self) -> Entry:
        """The newer side that exists."""
        found = self.new or self.old
        assert found is not None
        return found

    @property
    def bytes(self) -> int:
        """By how much the size went up."""
        return (self.new.size if self.new else 0) - (self.old.size if self.old else 0)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "change": self.change,
            **{name: value for name, value in self.entry.to_dict().items() if name.startswith("path")},
            "old": self.old.to_dict() if self.old else None,
            "new": self.new.to_dict() if self.new else None,
        }


def compare_manifests(old: Manifest, new: Manifest, under: bytes | None = None) -> Iterator[Difference]:
    """All differences in manifest order; memory is bounded by the manifests' windows."""
    columns = list(dict.fromkeys([*COLUMNS, *_CONTENT, *_METADATA]))
    left, right = Cursor(old.tables(columns, under)), Cursor(new.tables(columns, under))
    for before, after in aligned(left, right):
        yield from _differences(before, after)


def _differences(before: pa.Table | None, after: pa.Table | None) -> Iterator[Difference]:
    if before is None or after is None:
        yield from (Difference("removed", entry, None) for entry in _entries(before))
        yield from (Difference("added", None, entry) for entry in _entries(after))
        return
    at = match(after, before)
    kept = at >= 0
    gone = np.ones(before.num_rows, dtype=bool)
    gone[at[kept]] = False
    old, new = before.take(pa.array(at[kept])), after.filter(pa.array(kept))
    content = _differ(old, new, _CONTENT)
    metadata = _differ(old, new, _METADATA) & ~content
    found = [Difference("added", None, entry) for entry in _entries(after, ~kept)]
    found += [Difference("removed", entry, None) for entry in _entries(before, gone)]
    for change, mask in (("modified", content), ("metadata", metadata)):
        pairs = zip(_entries(old, mask), _entries(new, mask), strict=True)
        found += [Difference(change, *pair) for pair in pairs]
    yield from sorted(found, key=lambda item: row_key(item.entry.dir, item.entry.name))


def _entries(table: pa.Table | None, mask: Mask | None = None) -> Iterator[Entry]:
    if table is not None:
        yield from iter_entries([table if mask is None else table.filter(pa.array(mask))])


def _differ(old: pa.Table, new: pa.Table, names: tuple[str, ...]) -> Mask:
    found = np.zeros(old.num_rows, dtype=bool)
    for name in names:
        left, right = old[name], new[name]
        both_null = pc.and_(pc.is_null(left), pc.is_null(right))
        same = pc.or_(pc.fill_null(pc.equal(left, right), False), both_null)
        found |= ~np.asarray(same.to_numpy(), dtype=bool)
    return found
