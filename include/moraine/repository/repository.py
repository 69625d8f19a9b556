"""An opened repository: configuration, keys, log, and the readers of what the log refers to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from moraine.errors import (
    AlreadyARepository,
    ConfigError,
    ForgedObject,
    MissingObject,
    ObjectExists,
    ObjectNotFound,
    SnapshotNotFound,
)
from moraine.model.ids import make_ulid
from moraine.model.log import LogState
from moraine.model.snapshot import Snapshot, SnapshotRecord
from moraine.model.window import format_time
from moraine.repository import layout
from moraine.repository.documents import digest, write_open
from moraine.repository.key_slots import make_slot
from moraine.repository.keys import Entropy, Keyring
from moraine.repository.log import Log
from moraine.repository.objects import Objects
from moraine.repository.sealed_documents import read_sealed, write_sealed
from moraine.repository.unlock import FORMAT, Passphrase, RepositoryConfig, Unlocked, read_slots, unlock
from moraine.stores.ahead import NEAR, at_once, begin
from moraine.stores.base import Store

if TYPE_CHECKING:
    import pyarrow as pa

    from moraine.repository.chunks import ChunkReader
    from moraine.repository.index import Index
    from moraine.repository.manifest import Manifest
    from moraine.sources.mirror import Mirror


class Repository:
    """Everything written to one store under one format version and key."""

    def __init__(self, store: Store, config: RepositoryConfig, keyring: Keyring, entropy: Entropy) -> None:
        self.store = store
        self.objects = Objects(store)
        self.config = config
        self.keyring = keyring
        self.entropy = entropy
        self.log = Log(store, keyring, entropy)
        self._index: Index | None = None
        self.mirror: Mirror | None = None  # the tree that has the content, where no pack does

    @classmethod
    def create(
        cls,
        store: Store,
        *,
        passphrase: bytes | None,
        now: datetime,
        entropy: Entropy,
        capabilities: Mapping[str, Any] | None = None,
        label: str = "first",
    ) -> Repository:
        """Make a repository; without a passphrase (or generated key) a plain one.

        Raises:
            AlreadyARepository: there is one.
        """
        if passphrase is not None and not passphrase:
            raise ConfigError("the passphrase is empty", hint="write one into the passphrase file, or ask for --plain")
        config = RepositoryConfig(
            make_ulid(now, entropy(10)), passphrase is not None, format_time(now), capabilities=dict(capabilities or {})
        )
        keyring = Keyring.create(entropy) if passphrase is not None else Keyring.plain(config.id)
        _require_empty(store)
        repository = cls(store, config, keyring, entropy)
        if passphrase is not None:
            repository.add_slot(passphrase, label=label, now=now)
        try:
            store.put(layout.CONFIG, write_open(asdict(config), key=layout.CONFIG, keyring=keyring))
        except ObjectExists as error:
            raise _already(store) from error
        repository.log.append("create", {"repository": config.id, "format": FORMAT}, now=now)
        return repository

    @classmethod
    def open(cls, store: Store, passphrase: Passphrase, *, entropy: Entropy) -> Repository:
        """Open a repository and read its log; `passphrase` is asked only where it is encrypted.

        Raises:
            NotARepository, UnsupportedFormat, WrongPassphrase, DamagedObject, ForgedObject
        """
        return cls.enter(store, unlock(store, passphrase), entropy=entropy)

    @classmethod
    def enter(cls, store: Store, unlocked: Unlocked, *, entropy: Entropy) -> Repository:
        """Open a repository whose keys are at hand, and read its log.

        Raises:
            MissingObject, DamagedObject, ForgedObject: the log is not whole.
        """
        repository = cls(store, unlocked.config, unlocked.keyring, entropy)
        repository.log.open(unlocked.load_log())
        if repository.state.number < 0:
            raise MissingObject("the repository's log is empty", hint="restore log/ from a copy of the store")
        return repository

    @property
    def state(self) -> LogState:
        """The log's state as of the last read."""
        return self.log.state

    # What reads tables loads Arrow, which a listing of snapshots does without: so it is imported where it is used.

    @cached_property
    def chunks(self) -> ChunkReader:
        """The reader of stored content."""
        from moraine.repository.chunks import ChunkReader

        # From afar, ranges that are on their way take memory too (`repository/fetch.py`).
        return ChunkReader(self.store, self.keyring, memory=(24 if at_once(self.store) > NEAR else 32) << 20)

    @property
    def index(self) -> Index:
        """The committed chunks as of the log's state."""
        from moraine.repository.index import Index

        segments = list(self.state.segments.values())
        if self._index is None or self._index.segments != segments:
            self._index = Index(self.objects, self.keyring, segments)
        return self._index

    @cached_property
    def slots(self) -> list[dict[str, Any]]:
        """The key slots, oldest first; JSON forms."""
        return read_slots(self.store)

    def find(self, name: str, policy: str | None = None) -> SnapshotRecord:
        """A live snapshot by id, unambiguous prefix or suffix of it, or `latest`. Raises SnapshotNotFound."""
        live = self.state.live(policy)
        if name == "latest":
            found = sorted(live, key=lambda record: (record.window.end, record.captured_at))[-1:]
        else:
            wanted = name.upper()
            found = [s for s in live if s.id.startswith(wanted) or (len(wanted) >= 4 and s.id.endswith(wanted))]
        if len(found) != 1:
            many = f"{len(found)} snapshots match" if found else "no live snapshot is"
            of_policy = f" of policy {policy}" if policy else ""
            raise SnapshotNotFound(f"{many} {name!r}{of_policy}", hint="`moraine snapshots` lists them")
        return found[0]

    def snapshot(self, name: str, policy: str | None = None) -> Snapshot:
        """The full description of a live snapshot. Raises SnapshotNotFound, MissingObject, ForgedObject."""
        record = self.find(name, policy)
        try:
            data = self.objects.get(record.key)
        except ObjectNotFound as error:
            raise MissingObject(
                f"{record.key} is gone though the log commits to it",
                hint="restore the object from a copy of the store",
                object=record.key,
            ) from error
        content = read_sealed(data, key=record.key, keyring=self.keyring)
        if digest(data) != record.digest:
            raise ForgedObject(
                f"{record.key} is not the object the log committed", hint="run `moraine check`", object=record.key
            )
        return Snapshot.from_dict(content)

    def ahead(self, snapshot: str | None) -> None:
        """This snapshot's rows will be read soon: where the store is far away, they are fetched from now on."""
        record = self.state.snapshots.get(snapshot or "")
        if record:
            self.objects.ahead(record.key)
            begin(self.store, lambda: self.manifest(self.snapshot(record.id)).ahead())

    def manifest(self, snapshot: Snapshot) -> Manifest:
        """The rows of a snapshot."""
        from moraine.repository.manifest import Manifest

        return Manifest(self.objects, self.keyring, snapshot)

    def save_report(self, name: str, content: Any) -> str:
        """Keep a report under `reports/`, sealed like other metadata; its key."""
        key = layout.report(name)
        self.store.put(key, write_sealed(content, key=key, keyring=self.keyring, entropy=self.entropy))
        return key

    def save_report_table(self, name: str, table: pa.Table) -> dict[str, str]:
        """Keep a table under `reports/`; its key and digest, for the report that refers to it."""
        from moraine.repository.tables import write_table

        key = layout.report(name)
        data = write_table(table, key=key, keyring=self.keyring)
        self.store.put(key, data)
        return {"key": key, "digest": digest(data)}

    def load_report_table(self, ref: Mapping[str, str]) -> pa.Table:
        """A table that a report refers to. Raises ObjectNotFound, DamagedObject."""
        from moraine.repository.tables import read_table

        return read_table(self.store.get(ref["key"]), key=ref["key"], keyring=self.keyring, expect=ref["digest"])

    def load_report(self, key: str) -> Any:
        """A report's content."""
        return read_sealed(self.store.get(key), key=key, keyring=self.keyring)

    def add_slot(self, secret: bytes, *, label: str, now: datetime) -> str:
        """Let one more passphrase or generated key open the repository; the slot's id."""
        if not self.keyring.encrypted:
            raise ConfigError("a plain repository has no keys", hint="make an encrypted one and copy into it")
        slot_id = make_ulid(now, self.entropy(10))
        slot = make_slot(
            self.keyring,
            secret,
            slot=slot_id,
            repository_id=self.config.id,
            label=label,
            created_at=format_time(now),
            entropy=self.entropy,
        )
        key = layout.slot(slot_id)
        self.store.put(key, write_open(slot, key=key, keyring=None))
        self.__dict__.pop("slots", None)
        if self.state.number >= 0:
            self.log.append("key-change", {"added": slot_id, "label": label}, now=now)
        return slot_id

    def remove_slot(self, name: str, *, now: datetime) -> str:
        """Take a slot away by id, prefix or label; never the last one. Raises ConfigError."""
        found = [s for s in self.slots if s["slot"].startswith(name.upper()) or s["label"] == name]
        if len(found) != 1:
            raise ConfigError(f"{len(found)} key slots match {name!r}", hint="`moraine key list` shows them")
        if len(self.slots) == 1:
            raise ConfigError(
                "this is the last key slot: without it nobody can read the repository", hint="add one first"
            )
        self.store.delete(layout.slot(found[0]["slot"]))
        self.__dict__.pop("slots", None)
        self.log.append("key-change", {"removed": found[0]["slot"], "label": found[0]["label"]}, now=now)
        return str(found[0]["slot"])

    def new_id(self, now: datetime) -> str:
        """A new ULID."""
        return make_ulid(now, self.entropy(10))


def _require_empty(store: Store) -> None:
    try:
        store.head(layout.CONFIG)
    except ObjectNotFound:
        return
    raise _already(store)


def _already(store: Store) -> AlreadyARepository:
    return AlreadyARepository(f"{store.url} is a repository already", hint="use it as it is, or choose another address")
