"""Rows and columns per table: what the restored footers add up to, beside what was recorded that night and before.

Columns are held against each other by one rule: a table may be given new columns, and nothing else. So of two shapes
one must hold all columns of the other, with the same types, and a night must hold all that the night before held.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil, floor
from typing import Any

import pyarrow as pa

from moraine.engine.footers import Shape
from moraine.model import compute as pc
from moraine.model.entry import display_path
from moraine.model.record import dataclass
from moraine.proof.data_set import DataSet
from moraine.proof.data_set_plan import MOST_SHAPES, table_of
from moraine.proof.look import Look

_TOLERANCE = 0.001

FACTS = pa.schema(
    [
        pa.field("table", pa.string()),
        *(
            pa.field(name, pa.int64())
            for name in (
                *("rows", "recorded_rows", "least_rows", "most_rows"),
                *("rows_before", "least_rows_since", "shapes"),
            )
        ),
        pa.field("drift", pa.string()),
    ]
)


@dataclass(slots=True)
class _Found:
    files: int = 0
    rows: int = 0


class Tables:
    """Adds up the tables of one data set."""

    def __init__(self, data_set: DataSet) -> None:
        self._data_set = data_set
        self._recorded: dict[str, Any] = data_set.recorded.get("tables", {})
        self._shapes = {name: set(table["shapes"]) for name, table in self._recorded.items()}
        self._found: dict[str, _Found] = {}

    def add(self, paths: Sequence[bytes], looks: Sequence[Look]) -> list[bool | None]:
        """Count some files; for each whether its columns are among the recorded ones, None where nothing says."""
        return [self._add(path, look) for path, look in zip(paths, looks, strict=True)]

    def _add(self, path: bytes, look: Look) -> bool | None:
        name = "" if self._data_set.rules else display_path(table_of(path))
        table = self._found.setdefault(name, _Found())
        table.files += 1
        table.rows += look.rows or 0
        known = self._recorded.get(name)
        if look.columns is None or known is None:
            return None
        complete = not known["unrecorded"] and len(known["shapes"]) < MOST_SHAPES
        return look.columns in self._shapes[name] or (False if complete else None)

    def facts(self, not_proven: list[str]) -> tuple[pa.Table, list[str]]:
        """One row per table that can be judged, and what to call it; the rest goes to `not_proven`."""
        rows = [row for name in self._recorded if (row := self._row(name, not_proven))]
        left_out = self._data_set.recorded.get("tables_left_out", 0)
        if left_out:
            not_proven.append(f"rows and columns of {left_out:,} more tables: only {len(self._recorded)} are compared")
        columns = {name: [row[name] for row in rows] for name in FACTS.names}
        return pa.table(columns, schema=FACTS), [_note(row, self._tolerance) for row in rows]

    @property
    def _tolerance(self) -> float:
        return float(self._data_set.rules.get("rows_tolerance", _TOLERANCE))

    def _row(self, name: str, not_proven: list[str]) -> dict[str, Any] | None:
        recorded, found = self._recorded[name], self._found.get(name, _Found())
        called = name or self._data_set.name
        row: dict[str, Any] = {"table": called, "drift": self._drift(recorded)} | dict.fromkeys(FACTS.names[1:-1])
        self._compare_nights(row, called, recorded, not_proven)
        if len(recorded["shapes"]) >= MOST_SHAPES:
            not_proven.append(f"columns of {called}: of its many variants only {MOST_SHAPES} are compared")
        if recorded["unrecorded"]:
            not_proven.append(
                f"rows and columns of {called}: the night recorded none of {recorded['unrecorded']:,} of its files"
            )
        elif not self._data_set.whole and found.files < recorded["files"]:
            not_proven.append(f"rows of {called}: {found.files:,} of its {recorded['files']:,} files were restored")
        else:
            spread = recorded["rows"] * self._tolerance
            row["rows"] = found.rows
            row["least_rows"], row["most_rows"] = ceil(recorded["rows"] - spread), floor(recorded["rows"] + spread)
        row["recorded_rows"] = None if recorded["unrecorded"] else recorded["rows"]
        row["shapes"] = len(recorded["shapes"]) or None
        return row

    def _compare_nights(
        self, row: dict[str, Any], called: str, recorded: dict[str, Any], not_proven: list[str]
    ) -> None:
        if not self._data_set.rules.get("grows"):
            return
        if recorded["before"] is None or recorded["unrecorded"]:
            not_proven.append(f"that {called} has not lost rows: no snapshot before it records them")
            return
        before = recorded["before"]["rows"]
        row["rows_before"], row["least_rows_since"] = before, ceil(before * (1 - self._tolerance))

    def _drift(self, recorded: dict[str, Any]) -> str | None:
        if self._data_set.rules.get("drift") == "allow":
            return None
        shapes = [dict(Shape.of_text(text).columns) for text in recorded["shapes"]]
        widest: dict[str, str] = {}
        for shape in sorted(shapes, key=len):
            if differs := _differ(widest, shape):
                return f"between its files: {differs}"
            widest = shape
        before = recorded["before"] or {"shapes": ()}
        old = [dict(Shape.of_text(text).columns) for text in before["shapes"]]
        differs = _differ(max(old, key=len, default={}), widest)
        return f"since the snapshot before: {differs}" if differs and shapes else None


def compares(facts: pa.Table, columns: dict[str, Any], rules: dict[str, Any]) -> bool:
    """Whether an expectation about these columns of the facts has anything to say: what compares nothing, passes."""
    if columns.get("column") == "drift":
        return rules.get("drift") != "allow" and facts["shapes"].null_count < len(facts)
    both = pc.and_(pc.is_valid(facts[columns["column_A"]]), pc.is_valid(facts[columns["column_B"]]))
    return bool(pc.any(both).as_py())


def _differ(old: dict[str, str], new: dict[str, str]) -> str:
    """How `new` fails to hold all that `old` held; empty when it does."""
    gone = [name for name in old if name not in new]
    retyped = [f"{name} was {kind}, is {new[name]}" for name, kind in old.items() if new.get(name, kind) != kind]
    added = [name for name in new if name not in old]
    said = [f"gone: {_listed(gone)}"] * bool(gone) + retyped[:3]
    return "; ".join([*said, *[f"new: {_listed(added)}"] * bool(gone and added)])


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _note(row: dict[str, Any], tolerance: float) -> str:
    said = []
    if row["rows"] is not None and not row["least_rows"] <= row["rows"] <= row["most_rows"]:
        said.append(f"{_lost(row['recorded_rows'], row['rows'])} than recorded that night (tolerance {tolerance:.3%})")
    if row["rows_before"] is not None and row["recorded_rows"] < row["least_rows_since"]:
        lost = _lost(row["rows_before"], row["recorded_rows"])
        said.append(f"{lost} than the snapshot before (tolerance {tolerance:.3%})")
    said += [row["drift"]] if row["drift"] else []
    return f"{row['table']}: {'; '.join(said)}"


def _lost(expected: int, found: int) -> str:
    word = "fewer" if found < expected else "more"
    share = abs(found - expected) / expected if expected else 1.0
    return f"expected {expected:,} rows, found {found:,}: {abs(found - expected):,} ({share:.3%}) {word}"
