"""Working files of a session: what one step leaves for the next, sealed like everything else.

A `Ref` names one by key and digest, small enough for XCom. Big tables are saved as pieces, each belonging to one part
(the copy shard that has to look at it), so no step needs to hold, or even fetch, all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from moraine.errors import DamagedObject, ObjectNotFound, SessionGone
from moraine.model.ids import ULID
from moraine.repository import layout
from moraine.repository.documents import digest
from moraine.repository.keys import Entropy, Keyring
from moraine.repository.sealed_documents import read_sealed, write_sealed
from moraine.repository.tables import read_table, write_table
from moraine.stores.ahead import remove_all
from moraine.stores.base import Store

Ref = str  # "<object key>@<digest>"


class WorkFiles:
    """Saves and loads the working files of one session."""

    def __init__(self, store: Store, keyring: Keyring, session: str, entropy: Entropy) -> None:
        if not ULID.match(session):
            raise SessionGone(f"{session!r} is no session id", hint="take it from the run's `open` task")
        self.store = store  # where they are
        self._keyring = keyring
        self._entropy = entropy
        self.session = session

    def save_table(self, name: str, table: pa.Table) -> Ref:
        """Save one table; `name` must be new in this session."""
        key = layout.session_file(self.session, name + ".parquet")
        return self._put(key, write_table(table, key=key, keyring=self._keyring))

    def load_table(self, ref: Ref, columns: Sequence[str] | None = None) -> pa.Table:
        """Load one table. Raises SessionGone, DamagedObject."""
        key, data = self._get(ref)
        return read_table(data, key=key, keyring=self._keyring, columns=columns)

    def save_pieces(self, name: str, pieces: Iterable[tuple[int, pa.Table]]) -> Ref:
        """Save a sequence of (part, table); one object per piece and one that lists them."""
        listed = [
            {"part": part, "rows": table.num_rows, "ref": self.save_table(f"{name}-{number:06d}", table)}
            for number, (part, table) in enumerate(pieces)
        ]
        return self.save_json(name, {"pieces": listed})

    def load_pieces(
        self, ref: Ref, *, part: int | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[pa.Table]:
        """The tables of a sequence in order: all of them, or those of one part."""
        for piece in self.load_json(ref)["pieces"]:
            if part is None or piece["part"] == part:
                yield self.load_table(piece["ref"], columns)

    def save_json(self, name: str, content: Any) -> Ref:
        """Save a small document; `name` must be new in this session."""
        key = layout.session_file(self.session, name + ".json")
        return self._put(key, write_sealed(content, key=key, keyring=self._keyring, entropy=self._entropy))

    def load_json(self, ref: Ref) -> Any:
        """Load a small document. Raises SessionGone, DamagedObject."""
        key, data = self._get(ref)
        return read_sealed(data, key=key, keyring=self._keyring)

    def list(self, prefix: str) -> list[str]:
        """Names (without ending) of the working files whose name starts with `prefix`, which ends in '/'."""
        start = layout.session_file(self.session, "")
        return [info.key.removeprefix(start).rpartition(".")[0] for info in self.store.list(start + prefix)]

    def read_json(self, name: str) -> Any:
        """A small document found by `list`. Raises SessionGone, DamagedObject."""
        key = layout.session_file(self.session, name + ".json")
        return read_sealed(self._read(key), key=key, keyring=self._keyring)

    def clear(self) -> None:
        """Remove all working files of the session."""
        remove_all(self.store, [info.key for info in self.store.list(layout.session_file(self.session, ""))])

    def _put(self, key: str, data: bytes) -> Ref:
        self.store.put(key, data)
        return f"{key}@{digest(data)}"

    def _get(self, ref: Ref) -> tuple[str, bytes]:
        key, _, expected = ref.rpartition("@")
        if not key.startswith(layout.session_file(self.session, "")):
            raise SessionGone(f"{key} does not belong to session {self.session}", hint="clear the run's `open` task")
        data = self._read(key)
        if digest(data) != expected:
            raise DamagedObject(f"{key} does not match its digest", hint="clear the step that wrote it", object=key)
        return key, data

    def _read(self, key: str) -> bytes:
        try:
            return self.store.get(key)
        except ObjectNotFound as error:
            raise SessionGone(
                f"working file {key} is gone",
                hint="the session was swept; clear the run's `open` task and everything after it",
                object=key,
            ) from error
