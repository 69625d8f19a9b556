"""What somebody else has done to a mirror since the last run: its listing, held against the one of that run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, field
from typing import Any

import numpy as np
import pyarrow as pa

from moraine.engine.rows import Cursor, aligned, key_at, match, sorted_rows
from moraine.errors import MissingObject, ObjectNotFound
from moraine.model.entry import Kind, display_path, join_path
from moraine.model.record import dataclass
from moraine.model.schemas import INVENTORY, NAME
from moraine.repository import layout
from moraine.repository.documents import digest
from moraine.repository.repository import Repository
from moraine.repository.tables import read_table, write_table
from moraine.sources.mirror import Mirror
from moraine.stores.ahead import remove_all

NAMED = 1000  # entries that a report names
WORDS = ("missing", "added", "changed", "attributes")
DRIFT = pa.schema(
    [
        pa.field("dir", NAME, nullable=False),
        pa.field("name", pa.binary(), nullable=False),
        pa.field("what", pa.uint8(), nullable=False),  # number in WORDS
    ]
)
_CONTENT = ("kind", "size", "mtime", "mtime_ns", "rdev")
_UNSTABLE = ("inode", "ctime", "ctime_ns")  # of a file with one name: another name changes them
_ATTRIBUTES = ("mode", "uid", "gid")


@dataclass(slots=True)
class Drift:
    """What was found by a look at the mirror that began `at` a time.

    `ours` are entries that a run which did not come to its end had been about to change; `moved`: the mirror was copied
    to where it is now, so its inode numbers say nothing.
    """

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(WORDS, 0))
    named: list[dict[str, str]] = field(default_factory=list)  # path, what
    ours: int = 0
    entries: int = 0  # that the mirror should have
    moved: bool = False
    at: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def last_seen(repository: Repository, snapshot: str | None) -> dict[str, Any] | None:
    """What the run of a snapshot saw of the mirror (`mirror_settle.Evidence`); None where nothing says so."""
    if snapshot is None or snapshot not in repository.state.snapshots:
        return None
    return next((seen for seen in repository.snapshot(snapshot).evidence if "mirror" in seen), None)


def find_drift(repository: Repository, mirror: Mirror, snapshot: str | None, drift: Drift) -> Iterator[pa.Table]:
    """Rows (DRIFT, in order) of what differs from how the run of `snapshot` left it; `drift` is filled on the way."""
    seen = last_seen(repository, snapshot)
    if seen is None:
        return
    before = (_load(repository, piece) for piece in seen["mirror"])
    ours = Cursor(_pending(repository))
    first = True
    for found, known in aligned(Cursor(_tables(mirror)), Cursor(before)):
        drift.entries += known.num_rows if known is not None else 0
        if first:
            drift.moved, first = _is_another(found, known), False
        table = _differences(found, known, drift.moved)
        if table.num_rows:
            _count(table, ours, drift)
            yield table


def save_pending(repository: Repository, session: str, name: str, changes: Iterator[pa.Table]) -> None:
    """Note which entries a run is about to change, before it changes the first."""
    for number, table in enumerate(changes):
        key = layout.mirror_file(session, f"pending-{name}-{number:06d}.parquet")
        rows = table.select(["dir", "name"])
        repository.store.put(key, write_table(rows, key=key, keyring=repository.keyring))


def save_seen(repository: Repository, session: str, name: str, tables: Iterator[pa.Table]) -> list[dict[str, Any]]:
    """Keep the listing of a mirror; what the snapshot has to say of it."""
    pieces = []
    for number, table in enumerate(tables):
        key = layout.mirror_file(session, f"seen-{name}-{number:06d}.parquet")
        data = write_table(table.unify_dictionaries(), key=key, keyring=repository.keyring)
        repository.store.put(key, data)
        pieces.append({"key": key, "digest": digest(data), "rows": table.num_rows})
    return pieces


def sweep_seen(repository: Repository, policy: str) -> None:
    """Remove the listings and notes of sessions that are over; those that the newest snapshot names stay."""
    found = [info.key for info in repository.store.list(layout.MIRROR)]
    over = [key for key in found if _session(key) not in repository.state.sessions]
    live = repository.state.live(policy)
    newest = max(live, key=lambda s: (s.window.end, s.captured_at)).id if live else None
    seen = last_seen(repository, newest) if over else None
    kept = {piece["key"] for piece in seen["mirror"]} if seen else set()
    remove_all(repository.store, [key for key in over if key not in kept])


def _session(key: str) -> str:
    return key.removeprefix(layout.MIRROR).partition("/")[0]


def rows_through(cursor: Cursor, key: bytes) -> pa.Table | None:
    """All rows up to and including a key; None when there are none."""
    tables = []
    while (table := cursor.take_through(key)) is not None:
        tables.append(table)
    return pa.concat_tables(tables) if tables else None


def _pending(repository: Repository) -> Iterator[pa.Table]:
    """The entries that open sessions may have changed, in order."""
    tables = []
    for info in repository.store.list(layout.MIRROR):
        if info.key.rpartition("/")[2].startswith("pending-"):
            tables.append(read_table(repository.store.get(info.key), key=info.key, keyring=repository.keyring))
    if tables:
        yield sorted_rows(pa.concat_tables(tables).unify_dictionaries())


def _load(repository: Repository, piece: dict[str, Any]) -> pa.Table:
    try:
        data = repository.store.get(piece["key"])
    except ObjectNotFound as error:
        raise MissingObject(
            f"{piece['key']}, the mirror as the last run left it, is gone",
            hint="restore the object, or forget the newest snapshot: the next run looks at every file",
            object=piece["key"],
        ) from error
    return read_table(data, key=piece["key"], keyring=repository.keyring, expect=piece["digest"])


def _tables(mirror: Mirror) -> Iterator[pa.Table]:
    for batch in mirror.entries():
        yield holdable(mirror, pa.Table.from_batches([batch]))


def holdable(mirror: Mirror, table: pa.Table) -> pa.Table:
    """The rows of entries that the tree itself can hold."""
    if len(mirror.kinds) == len(Kind):
        return table
    return table.filter(pa.array(np.isin(table["kind"].to_numpy(), [int(kind) for kind in mirror.kinds])))


def _is_another(found: pa.Table | None, known: pa.Table | None) -> bool:
    """Whether the root, which comes first, is another directory: a mirror that was copied to another disk.

    Then every inode number and time of change is new, and says nothing.
    """
    if found is None or known is None:
        return False
    roots = found["name"][0].as_py() == b"" == known["name"][0].as_py()
    return bool(roots and found["inode"][0].as_py() != known["inode"][0].as_py())


def _differences(found: pa.Table | None, known: pa.Table | None, moved: bool) -> pa.Table:
    if found is None:
        return _marked(known, "missing")
    if known is None:
        return _marked(found, "added")
    at = match(found, known)
    gone = np.ones(known.num_rows, bool)
    gone[at[at >= 0]] = False
    parts = [_marked(found.filter(pa.array(at < 0)), "added"), _marked(known.filter(pa.array(gone)), "missing")]
    both = found.filter(pa.array(at >= 0))
    content, attributes = _compare(both, known.take(pa.array(at[at >= 0])), moved)
    parts.append(_marked(both.filter(pa.array(content)), "changed"))
    parts.append(_marked(both.filter(pa.array(attributes & ~content)), "attributes"))
    parts = [part for part in parts if part.num_rows]
    return sorted_rows(pa.concat_tables(parts).unify_dictionaries()) if parts else DRIFT.empty_table()


def _compare(found: pa.Table, known: pa.Table, moved: bool) -> tuple[Any, Any]:
    """Masks of rows whose content, and whose attributes, are not as they were."""
    differs = {name: found[name].to_numpy() != known[name].to_numpy() for name in INVENTORY.names[2:]}
    folder = (found["kind"].to_numpy() == Kind.DIRECTORY) & ~differs["kind"]
    one_name = (found["nlink"].to_numpy() == 1) & (known["nlink"].to_numpy() == 1)
    content = np.logical_or.reduce([differs[name] for name in _CONTENT])
    attributes = np.logical_or.reduce([differs[name] for name in _ATTRIBUTES])
    # A new time of change alone may be an edit that put the old time back, so the content is looked at.
    if not moved:
        content |= one_name & np.logical_or.reduce([differs[name] for name in _UNSTABLE]) & ~attributes
    return content & ~folder, attributes


def _marked(table: pa.Table, word: str) -> pa.Table:
    what = pa.array(np.full(table.num_rows, WORDS.index(word), np.uint8))
    return table.select(["dir", "name"]).append_column(DRIFT.field("what"), what).cast(DRIFT)


def _count(table: pa.Table, ours: Cursor, drift: Drift) -> None:
    pending = rows_through(ours, key_at(table, table.num_rows - 1))
    foreign = table.filter(pa.array(match(table, pending) < 0)) if pending is not None else table
    drift.ours += table.num_rows - foreign.num_rows
    what = np.bincount(foreign["what"].to_numpy(), minlength=len(WORDS))
    for word, count in zip(WORDS, what.tolist(), strict=True):
        drift.counts[word] += count
    for row in foreign.slice(0, NAMED - len(drift.named)).to_pylist() if len(drift.named) < NAMED else ():
        path = display_path(join_path(row["dir"], row["name"])) or "."
        drift.named.append({"path": path, "what": WORDS[row["what"]]})
