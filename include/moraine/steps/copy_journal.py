"""What a copy shard has done so far, saved every few minutes, so that a retry goes on from there.

A shard's files begin with `copy/<shard>/`. Each journal entry tells everything up to a row of the change set, so the
newest whole one is enough; the last one is the shard's outcome. Packs carry the shard's number in their names:
whatever an attempt had uploaded after its last entry is found again by listing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from moraine.engine.known import KnownIds
from moraine.errors import IntegrityError, KeyUnavailable
from moraine.model.ids import make_ulid
from moraine.model.record import dataclass
from moraine.repository import layout
from moraine.repository.packs import StoredPack, read_trailer
from moraine.repository.work import Ref
from moraine.steps.run import Run
from moraine.stores.base import ObjectInfo

_ENTRY = "-entry"
_OUTCOME = "-outcome"
_REFUSED = "-refused"


@dataclass(slots=True)
class Done:
    """The content of a journal entry, and of an outcome."""

    shard: int
    changes: Ref
    rows: int = 0
    results: list[Ref] = field(default_factory=list)
    locations: list[Ref] = field(default_factory=list)
    packs: list[dict[str, Any]] = field(default_factory=list)
    totals: dict[str, int] = field(default_factory=dict)


class Journal:
    """The working files of one attempt at one copy shard."""

    def __init__(self, run: Run, changes: Ref, shard: int) -> None:
        self._run = run
        self._folder = _folder(shard)
        self._name = run.unique(f"{self._folder}copy")
        self._saved = 0
        self.anew = False  # an attempt has finished already
        self.done = Done(shard, changes)

    def resume(self, known: KnownIds) -> None:
        """Take over what earlier attempts have left: rows that are done, and chunks that are stored.

        Packs that `verify` has refused, and entries that rest on one, are left alone. Once an attempt has finished, a
        new one was asked for on purpose: it reads everything again, and uses only the chunks.
        """
        names = self._run.work.list(self._folder)
        refused = self._refused(names)
        stored = {info.key: info.size for info in self._own_packs() if info.key not in refused}
        self.anew = any(done.changes == self.done.changes for done in self._noted(names, _OUTCOME))
        if not self.anew:
            newest_first = self._noted(sorted(names, reverse=True), _ENTRY)
            mine = (entry for entry in newest_first if entry.changes == self.done.changes)
            whole = (entry for entry in mine if all(pack["key"] in stored for pack in entry.packs))
            self.done = next(whole, self.done)
        for ref in self.done.locations:
            _learn(known, self._run.work.load_table(ref, ["id"]))
        self._adopt(known, stored)

    def save(
        self, rows: int, totals: dict[str, int], results: list[pa.Table], packs: list[StoredPack], *, last: bool = False
    ) -> Ref:
        """Note that all rows up to `rows` are done, and where their chunks are; the new entry, or the outcome."""
        done = self.done
        done.rows = rows
        name = f"{self._name}-{self._saved:06d}"
        self._saved += 1
        if results:
            done.results.append(self._run.work.save_table(f"{name}-results", _joined(results)))
        self._note_packs(name, [pack.locations() for pack in packs], [_describe(pack) for pack in packs])
        written = {
            "added_bytes": sum(p["bytes"] for p in done.packs),
            "stored_bytes": sum(p["size"] for p in done.packs),
        }
        done.totals = totals | written
        return self._run.work.save_json(name + (_OUTCOME if last else _ENTRY), asdict(done))

    def _adopt(self, known: KnownIds, stored: dict[str, int]) -> None:
        noted = {pack["key"] for pack in self.done.packs}
        tables, packs = [], []
        for key, size in stored.items():
            if key in noted:
                continue
            try:
                table = read_trailer(self._run.repository.store, self._run.repository.keyring, key, size)
            except (IntegrityError, KeyUnavailable):
                continue  # nothing refers to it: its content is written once more, and it will be swept
            _learn(known, table)
            tables.append(table)
            total = int(np.sum(table["size"].to_numpy(), dtype=np.int64))
            packs.append({"key": key, "size": size, "chunks": table.num_rows, "bytes": total})
        self._note_packs(f"{self._name}-adopted", tables, packs)

    def _note_packs(self, name: str, tables: list[pa.Table], packs: list[dict[str, Any]]) -> None:
        if packs:
            self.done.locations.append(self._run.work.save_table(f"{name}-locations", _joined(tables)))
            self.done.packs += packs

    def _noted(self, names: list[str], kind: str) -> Iterator[Done]:
        for name in names:
            if name.endswith(kind):
                yield Done(**self._run.work.read_json(name))

    def _own_packs(self) -> Iterator[ObjectInfo]:
        mark = _mark(self.done.shard)
        prefix = layout.session_packs(self._run.session.id)
        listed = self._run.repository.store.list(prefix)
        return (info for info in listed if info.key[len(prefix) + 10 : len(prefix) + 13] == mark)

    def _refused(self, names: list[str]) -> set[str]:
        documents = [self._run.work.read_json(name) for name in names if name.endswith(_REFUSED)]
        return {key for document in documents for key in document["packs"]}


def pack_key(run: Run, shard: int) -> str:
    """The object key of a new pack."""
    ulid = run.repository.new_id(run.clock())
    return layout.pack(run.session.id, ulid[:10] + _mark(shard) + ulid[13:])


def note_refused(run: Run, shard: int, packs: list[str]) -> None:
    """Tell the next attempt at a copy shard to leave these packs alone: they do not hold what was written."""
    run.work.save_json(run.unique(f"{_folder(shard)}verify") + _REFUSED, {"packs": packs})


def _mark(shard: int) -> str:
    """The three letters of a ULID's random part by which the packs of a shard are told from those of others."""
    return make_ulid(datetime.fromtimestamp(0, UTC), ((shard & 0x7FFF) << 65).to_bytes(10, "big"))[10:13]


def _folder(shard: int) -> str:
    return f"copy/{shard:05d}/"


def _learn(known: KnownIds, table: pa.Table) -> None:
    for chunk in table["id"].chunks:
        known.add_all(np.frombuffer(chunk.buffers()[1], "S32")[chunk.offset : chunk.offset + len(chunk)])


def _joined(tables: list[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables).unify_dictionaries()


def _describe(pack: StoredPack) -> dict[str, Any]:
    return {"key": pack.key, "size": pack.size, "chunks": pack.chunks, "bytes": pack.plain}
