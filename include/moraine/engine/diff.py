"""What has changed since the parent snapshot: a columnar comparison of two sorted streams of rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from moraine.engine.lots import Lots
from moraine.engine.rows import match, sorted_rows
from moraine.model import compute as pc
from moraine.model.entry import Kind, Op, State
from moraine.model.record import dataclass
from moraine.model.schemas import CHANGES, CONTENT, INVENTORY, VERSION

Mask = npt.NDArray[np.bool_]
Column = npt.NDArray[np.generic]

REHASH_LIMIT = 64 << 20  # bytes; larger files are not re-read as a sample

REASONS = (
    "new", "type", "size", "mtime", "ctime", "inode", "was racy", "was unreadable",
    "unreadable", "owner or mode", "times", "links", "sample", "deleted", "renamed", "failed a proof",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rules:
    """How changes are detected."""

    ctime: bool = True
    inode: bool = True
    rehash: float = 0.0  # share of unchanged files to re-read
    again: pa.Array | None = None  # paths of files to re-read whatever they look like
    all_again: bool = False  # re-read every file


def compare(found: pa.Table | None, known: pa.Table | None, rules: Rules, session: str, lots: Lots) -> pa.Table:
    """Rows that differ between `found` (INVENTORY) and `known` (MANIFEST) over one key range.

    Returns:
        CHANGES rows in manifest order. `shard` is 0 where a copy step has to look at the entry and -1 elsewhere; the
        plan puts the real numbers in.
    """
    if found is None or not found.num_rows:
        return _deleted(known) if known is not None else CHANGES.empty_table()
    if known is None or not known.num_rows:
        return _added(found, session)
    at = match(found, known)
    kept = at >= 0
    if kept.all() and found.num_rows == known.num_rows:  # both are in order: row by row the same entries
        return _changed(found, known, rules, session, lots)
    fresh = _added(pc.filter(found, pc.from_numpy(~kept)), session)
    changed = _changed(
        pc.filter(found, pc.from_numpy(kept)), pc.take(known, pc.from_numpy(at[kept])), rules, session, lots
    )
    gone = np.ones(known.num_rows, dtype=bool)
    gone[at[kept]] = False
    parts = [part for part in (fresh, changed, _deleted(pc.filter(known, pc.from_numpy(gone)))) if part.num_rows]
    if not parts:
        return CHANGES.empty_table()
    return parts[0] if len(parts) == 1 else sorted_rows(pa.concat_tables(parts))


def _added(found: pa.Table, session: str) -> pa.Table:
    state = _column(found, "state")
    readable = state == State.OK
    reason = np.where(readable, REASONS.index("new"), REASONS.index("unreadable"))
    read = readable & (_column(found, "kind") == Kind.FILE)
    op = np.full(found.num_rows, Op.ADDED)
    return _rows(found, None, op, reason, read, readable, session)


def _changed(found: pa.Table, known: pa.Table, rules: Rules, session: str, lots: Lots) -> pa.Table:
    differs = {name: _column(found, name) != _column(known, name) for name in INVENTORY.names[2:]}
    file = _column(found, "kind") == Kind.FILE
    old_state = _column(known, "state")
    why = _Reasons(found.num_rows)
    why.mark("type", differs["kind"])
    why.mark("size", file & differs["size"])
    why.mark("mtime", file & (differs["mtime"] | differs["mtime_ns"]))
    if rules.ctime:
        why.mark("ctime", file & (differs["ctime"] | differs["ctime_ns"]))
    if rules.inode:
        why.mark("inode", file & differs["inode"])
    why.mark("was racy", file & (old_state == State.RACY))
    why.mark("was unreadable", (old_state == State.DENIED) | (old_state == State.VANISHED))
    content = why.code >= 0
    why.mark("owner or mode", differs["mode"] | differs["uid"] | differs["gid"] | differs["rdev"])
    times = differs["mtime"] | differs["mtime_ns"] | (rules.ctime & (differs["ctime"] | differs["ctime_ns"]))
    why.mark("times", ~file & times)
    looked = why.code >= 0
    linked = (_column(found, "nlink") > 1) & file
    why.mark("links", file & differs["nlink"] | linked & (differs["device"] | differs["inode"]))
    again = file & (why.code < 0) & _again(found, rules)
    why.mark("failed a proof", again)
    sample = _sample(found, file & (why.code < 0), rules.rehash, lots)
    why.mark("sample", sample)
    sample |= again

    denied = _column(found, "state") != State.OK
    still_denied = denied & (old_state == State.DENIED)
    why.code[still_denied] = -1
    why.mark("unreadable", denied & ~still_denied, force=True)
    op = np.select([content, sample], [Op.MODIFIED, Op.REHASH], Op.METADATA)
    read = ((content & file) | sample) & ~denied
    keep = why.code >= 0
    if not keep.any():
        return CHANGES.empty_table()
    rows = pc.from_numpy(keep)
    return _rows(
        pc.filter(found, rows),
        pc.filter(known, rows),
        op[keep],
        why.code[keep],
        read[keep],
        ((looked | sample) & ~denied)[keep],
        session,
    )


class _Reasons:
    """The first reason that applies to each row."""

    def __init__(self, rows: int) -> None:
        self.code = np.full(rows, -1, dtype=np.int64)

    def mark(self, reason: str, rows: Mask, *, force: bool = False) -> None:
        self.code[rows if force else rows & (self.code < 0)] = REASONS.index(reason)


def _sample(found: pa.Table, candidates: Mask, share: float, lots: Lots) -> Mask:
    if share <= 0 or not found.num_rows:
        return np.zeros(found.num_rows, dtype=bool)
    chosen = lots.draw(found.num_rows) < share
    wanted: Mask = chosen & candidates & (_column(found, "size") <= REHASH_LIMIT)
    return wanted


def _again(found: pa.Table, rules: Rules) -> Mask:
    """The files that a proof or drill found wrong."""
    if rules.all_again or rules.again is None or not len(rules.again):
        return np.full(found.num_rows, rules.all_again)
    directory, name = found["dir"].cast(pa.binary()), found["name"]
    below = pc.binary_join_element_wise(directory, name, pa.scalar(b"/", pa.binary()))
    path = pc.if_else(pc.equal(pc.binary_length(directory), 0), name, below)
    wanted: Mask = pc.is_in(path, value_set=rules.again).to_numpy()
    return wanted


def _deleted(known: pa.Table) -> pa.Table:
    count = known.num_rows
    op = np.full(count, Op.DELETED)
    reason = np.full(count, REASONS.index("deleted"))
    nothing = np.zeros(count, dtype=bool)
    return _rows(known.select(INVENTORY.names), known, op, reason, nothing, nothing, None)


def _rows(
    found: pa.Table, known: pa.Table | None, op: Column, reason: Column, read: Mask, look: Mask, session: str | None
) -> pa.Table:
    """CHANGES rows: stat columns as found, content columns carried over where they may still hold."""
    count = found.num_rows
    columns = {name: found[name] for name in INVENTORY.names}
    carried = known is not None
    for field in CONTENT:
        columns[field.name] = known[field.name] if carried and known is not None else pa.nulls(count, field.type)
    if session is not None:
        columns["session"] = pa.DictionaryArray.from_arrays(
            pc.from_numpy(np.zeros(count, np.int32)), pa.array([session])
        )
    columns["op"] = pc.from_numpy(op.astype(np.uint8))
    columns["reason"] = pa.DictionaryArray.from_arrays(pc.from_numpy(reason.astype(np.int32)), pa.array(REASONS))
    columns["read"] = pc.from_numpy(read)
    columns["shard"] = pc.from_numpy(np.where(look, 0, -1).astype(np.int32))
    known_version = VERSION.name in found.column_names
    columns[VERSION.name] = found[VERSION.name] if known_version else pa.nulls(count, VERSION.type)
    return pa.table(columns, schema=CHANGES)


def _column(table: pa.Table, name: str) -> npt.NDArray[np.int64]:
    column = table[name]
    if pa.types.is_dictionary(column.type):
        raise TypeError(f"{name} is no number")
    numbers: npt.NDArray[np.int64] = column.to_numpy()
    return numbers


def renamed(changes: pa.Table, gone: pa.Table) -> pa.Table:
    """`changes` with ADDED files marked RENAMED where `gone` (deleted files) has the same inode, size and mtime.

    Only a label for people: the content of a renamed file is read all the same, and deduplicated.
    """
    if not gone.num_rows or not changes.num_rows:
        return changes
    names = ["inode", "size", "mtime", "mtime_ns"]
    candidate = (_column(changes, "op") == Op.ADDED) & (_column(changes, "kind") == Kind.FILE)
    identity = pc.binary_join_element_wise(*(pc.cast(changes[n], pa.string()) for n in names), " ").combine_chunks()
    known = pc.binary_join_element_wise(*(pc.cast(gone[n], pa.string()) for n in names), " ").combine_chunks()
    hit = candidate & pc.is_in(identity, value_set=known).to_numpy(zero_copy_only=False)
    if not hit.any():
        return changes
    op = np.where(hit, Op.RENAMED, _column(changes, "op")).astype(np.uint8)
    reason = changes["reason"].unify_dictionaries().combine_chunks()
    codes = np.where(
        hit, REASONS.index("renamed"), pc.index_in(pc.cast(reason, pa.string()), value_set=pa.array(REASONS))
    )
    columns = {name: changes[name] for name in CHANGES.names}
    columns["op"] = pc.from_numpy(op)
    columns["reason"] = pa.DictionaryArray.from_arrays(pc.from_numpy(codes.astype(np.int32)), pa.array(REASONS))
    return pa.table(columns, schema=CHANGES)
