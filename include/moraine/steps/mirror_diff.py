"""diff and gate of a mirror: what has changed in the source, and what somebody else has changed in the mirror.

An entry that is not as the last run left it counts as changed, so the copy looks at it. Of a directory that cannot be
read nothing counts as deleted: what was in it stays in the mirror, and in the manifest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from moraine.engine.rows import Cursor, key_at, match
from moraine.errors import GateRefused
from moraine.model import compute as pc
from moraine.model.entry import Kind, State, join_path
from moraine.model.schemas import INVENTORY
from moraine.model.window import format_time
from moraine.steps.diff import Diffed, diff_entries
from moraine.steps.gate import Gated, gate_changes
from moraine.steps.list import Listed
from moraine.steps.mirror_drift import WORDS, Drift, find_drift, rows_through, save_pending
from moraine.steps.run import Run

_REPORT = "drift/"


def diff_mirror(run: Run, listed: Sequence[Listed]) -> Diffed:
    """Find what has to be written, and note what is about to change before anything does.

    Raises:
        RestoreError: the mirror cannot be listed.
        Errors of `diff_entries`.
    """
    assert run.mirror
    drift = Drift(at=format_time(run.clock()))
    found = run.work.save_pieces(
        run.unique("drift-rows"),
        ((0, table) for table in find_drift(run.repository, run.mirror, run.session.parent, drift)),
    )
    run.work.save_json(run.unique(_REPORT + "report"), drift.to_dict())
    lens = _Lens(run, Cursor(run.work.load_pieces(found)), _denied_directories(run, listed))
    diffed = diff_entries(run, listed, through=lens)
    counts = diffed.counts | {f"drift_{word}": drift.counts[word] for word in WORDS}
    counts |= {name: counts[name] + more for name, more in lens.kept.items()}
    if run.session.parent:
        changes = run.work.load_pieces(diffed.changes, columns=["dir", "name"])
        save_pending(run.repository, run.session.id, run.repository.new_id(run.clock()), changes)
    return replace(diffed, counts=counts)


def drift_report(run: Run) -> dict[str, Any]:
    """What the last `diff` of this session found; see `Drift.to_dict`."""
    names = run.work.list(_REPORT)
    return Drift().to_dict() | (run.work.read_json(names[-1]) if names else {})


def gate_mirror(run: Run, diffed: Diffed) -> Gated:
    """Let the changes through, or refuse them; so also, where the policy says so, a mirror that somebody changed.

    Raises:
        GateRefused: nothing was written.
    """
    gated = gate_changes(run, diffed)
    assert run.policy.destination
    if run.policy.destination.drift == "refuse" and any(diffed.counts[f"drift_{word}"] for word in WORDS):
        report = drift_report(run)
        raise GateRefused(
            f"somebody else has changed the mirror: {drift_sentence(report)}",
            hint="look there; if that may be undone, run once with `allow_change` (or --allow-change): "
            "what was added or changed goes to the trash",
            drift=report,
        )
    return gated


def drift_sentence(report: dict[str, object]) -> str:
    """`2 changed, 1 added: a/b (changed), c (changed), d (added)`; empty when there is none."""
    counts, named = report["counts"], report["named"]
    assert isinstance(counts, dict) and isinstance(named, list)
    total = sum(counts.values())
    if not total:
        return ""
    words = ", ".join(f"{count:,} {word}" for word, count in counts.items() if count)
    shown = ", ".join(f"{item['path']} ({item['what']})" for item in named[:5])
    return f"{words}: {shown}" + (f" and {total - 5:,} more" if total > 5 else "")


class _Lens:
    """The parent's rows: what has drifted counts as not captured, what is in an unreadable directory is left out."""

    def __init__(self, run: Run, drift: Cursor, denied: list[bytes]) -> None:
        self._run = run
        self._drift = drift
        self._denied = denied
        self.kept = dict.fromkeys(("entries", "files", "directories", "bytes"), 0)

    def __call__(self, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for table in tables:
            if table.num_rows:
                yield self._marked(self._without(table))

    def _without(self, table: pa.Table) -> pa.Table:
        if not self._denied:
            return table
        column = table["dir"].cast(pa.binary())
        inside = [pc.or_(pc.equal(column, path), pc.starts_with(column, path + b"/")) for path in self._denied]
        mask = np.logical_or.reduce([np.asarray(one) for one in inside])
        hid = table.filter(pa.array(mask))
        kind = hid["kind"].to_numpy()
        self.kept["entries"] += hid.num_rows
        self.kept["files"] += int((kind == Kind.FILE).sum())
        self.kept["directories"] += int((kind == Kind.DIRECTORY).sum())
        self.kept["bytes"] += int(hid["size"].to_numpy()[kind == Kind.FILE].sum())
        return table.filter(pa.array(~mask))

    def _marked(self, table: pa.Table) -> pa.Table:
        if not table.num_rows:
            return table
        drift = rows_through(self._drift, key_at(table, table.num_rows - 1))
        if drift is None:
            return table
        hit = match(table, drift) >= 0
        state = np.where(hit, State.VANISHED, table["state"].to_numpy()).astype(np.uint8)
        number = table.schema.get_field_index("state")
        return table.set_column(number, INVENTORY.field("state"), pa.array(state))


def _denied_directories(run: Run, listed: Sequence[Listed]) -> list[bytes]:
    if not any(part.denied for part in listed):
        return []
    found = []
    for part in listed:
        for table in run.work.load_pieces(part.inventory, columns=["dir", "name", "kind", "state"]):
            mask = (table["kind"].to_numpy() == Kind.DIRECTORY) & (table["state"].to_numpy() == State.DENIED)
            found += [join_path(row["dir"], row["name"]) for row in table.filter(pa.array(mask)).to_pylist()]
    return found
