"""The log: numbered, create-only, chained and authenticated entries; the one truth about a repository.

An append lets the caller validate against the newest entry it knows, and creates the next number. Whoever finds that
one taken reads on, validates again and tries the number after. So every entry was valid against its predecessor, and
no lock, lease or clock is needed (the commit protocol of Delta and Iceberg, on a plain object store).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from moraine.errors import (
    ClockSkew,
    DamagedObject,
    ForgedObject,
    IntegrityError,
    MissingObject,
    ObjectExists,
    ObjectNotFound,
    StoreUnavailable,
    UnsupportedFormat,
)
from moraine.model.log import LOG_VERSION, Forgotten, LogEntry, LogState
from moraine.repository import layout
from moraine.repository.documents import digest, read_open, write_open
from moraine.repository.keys import Entropy, Keyring
from moraine.repository.log_objects import LogObjects, Stored, fetch_log, stored_entries
from moraine.repository.sealed_documents import read_sealed, write_sealed
from moraine.stores.base import Store

CHECKPOINT_EVERY = 64
MAX_SKEW = timedelta(minutes=10)
_RACES = 100

Validate = Callable[[LogState], object]
Body = dict[str, Any] | Callable[[LogState], dict[str, Any]]


class Log:
    """Reads and extends the log; `state` is the fold up to the last refresh."""

    def __init__(self, store: Store, keyring: Keyring, entropy: Entropy) -> None:
        self._store = store
        self._keyring = keyring
        self._entropy = entropy
        self.state = LogState()

    def open(self, found: LogObjects | None = None) -> LogState:
        """Take in the newest checkpoint and everything after it. Raises DamagedObject, ForgedObject, MissingObject."""
        found = found or fetch_log(self._store)
        if found.checkpoint:
            self.state = self._read_checkpoint(*found.checkpoint)
        self._fold_all(found.entries)
        return self.state if found.whole else self._fold_rest()

    def history(self, upto: int | None = None) -> LogState:
        """The state with every snapshot that was ever forgotten: from the newest note of that on, then each entry.

        Without such a note every entry is read.
        """
        log = Log(self._store, self._keyring, self._entropy)
        noted = [layout.log_number(info.key) for info in self._store.list(layout.FORGOTTEN)]
        for number in sorted(noted, reverse=True):
            if upto is not None and number > upto:
                continue
            # A note is worked out from the entries: one that cannot be read is passed by, and `check` names it.
            with suppress(ObjectNotFound, IntegrityError):
                forgotten = self._load_forgotten(number)
                log.state = self._load_checkpoint(layout.checkpoint(number))
                log.state.forgotten, log.state.since = forgotten, -1
                break
        return log._fold_rest(upto)

    def _fold_rest(self, upto: int | None = None) -> LogState:
        after = layout.log_entry(self.state.number) if self.state.number >= 0 else None
        return self._fold_all(stored_entries(self._store, after, upto))

    def _fold_all(self, entries: Iterable[Stored]) -> LogState:
        for key, data in entries:
            self._fold(key, data)
        return self.state

    def refresh(self) -> LogState:
        """Fold the entries that others have added since."""
        while True:
            try:
                key = layout.log_entry(self.state.number + 1)
                data = self._store.get(key)
            except ObjectNotFound:
                return self.state
            self._fold(key, data)

    def append(self, kind: str, body: Body, *, now: datetime, validate: Validate | None = None) -> LogEntry:
        """Add an entry that `validate` accepts against the state right before it.

        `body` may be a function of that state, asked anew after every lost race.

        What was read last is taken for the head: if it is not, the number after it is taken, and the entry is made
        anew after reading on. A refusal is final only if the log has not gone on.

        Raises:
            ClockSkew: `now` is far before the newest entry's time.
            UnsupportedFormat: the log holds entries of a newer version.
        """
        for _ in range(_RACES):
            known = self.state.number
            try:
                content = self._judge(body, now, validate)
            except Exception:
                if self.refresh().number == known:
                    raise
                continue
            entry = LogEntry(self.state.number + 1, kind, now, self.state.digest, content, self._entropy(8).hex())
            key = layout.log_entry(entry.number)
            data = write_open(entry.to_dict(), key=key, keyring=self._keyring)
            try:
                self._store.put(key, data)
            except ObjectExists:
                self.refresh()
                continue
            self.state.apply(entry, digest(data))
            self._save_checkpoint()
            return entry
        raise StoreUnavailable("the log is so busy that an entry lost 100 races", hint="try again")

    def entries(self) -> list[LogEntry]:
        """Every entry, oldest first, each authenticated and its chain checked; for `check`."""
        found: list[LogEntry] = []
        previous = ""
        for key, data in stored_entries(self._store):
            entry, previous = self._read(key, data, len(found), previous)
            found.append(entry)
        return found

    def _fold(self, key: str, data: bytes) -> None:
        entry, object_digest = self._read(key, data, self.state.number + 1, self.state.digest)
        self.state.apply(entry, object_digest)

    def _read(self, key: str, data: bytes, number: int, previous: str) -> tuple[LogEntry, str]:
        if layout.log_number(key) != number:
            raise MissingObject(
                f"log entry {number} is missing",
                hint="restore it from a copy of the store",
                object=layout.log_entry(number),
            )
        content = read_open(data, key=key, keyring=self._keyring)
        if content.get("version", 0) > LOG_VERSION:
            raise UnsupportedFormat(f"{key} has log version {content['version']}", hint="upgrade Moraine", object=key)
        try:
            entry = LogEntry.from_dict(content)
        except (KeyError, TypeError) as error:
            raise DamagedObject(f"{key} is no log entry", object=key) from error
        if entry.number != number or entry.previous != previous:
            raise ForgedObject(
                f"{key} does not continue the log: its predecessor was another entry",
                hint="somebody replaced log entries; compare with a copy of the store",
                object=key,
            )
        return entry, digest(data)

    def _judge(self, body: Body, now: datetime, validate: Validate | None) -> dict[str, Any]:
        """What an entry after the present state says. Raises what makes it invalid."""
        self._require_writable(now)
        if validate:
            validate(self.state)
        return body(self.state) if callable(body) else body

    def _require_writable(self, now: datetime) -> None:
        if self.state.unknown:
            raise UnsupportedFormat(
                f"the log holds {self.state.unknown!r} entries of a newer version",
                hint="upgrade Moraine before writing",
            )
        if self.state.at and self.state.at - now > MAX_SKEW:
            raise ClockSkew(
                f"this machine's clock says {now:%Y-%m-%d %H:%M:%SZ}, but the newest log entry is from"
                f" {self.state.at:%Y-%m-%d %H:%M:%SZ}",
                hint="set the clock (or find the machine that wrote with a clock ahead of time), then run again",
            )

    def _load_checkpoint(self, key: str) -> LogState:
        return self._read_checkpoint(key, self._store.get(key))

    def _read_checkpoint(self, key: str, data: bytes) -> LogState:
        state = LogState.from_dict(read_sealed(data, key=key, keyring=self._keyring))
        if state.number != layout.log_number(key):
            raise ForgedObject(f"{key} is the state of entry {state.number}", object=key)
        return state

    def _load_forgotten(self, number: int) -> dict[str, Forgotten]:
        key = layout.forgotten(number)
        content = read_sealed(self._store.get(key), key=key, keyring=self._keyring)
        return {item["record"]["id"]: Forgotten.from_dict(item) for item in content["forgotten"]}

    def _save_checkpoint(self) -> None:
        if self.state.number == 0 or self.state.number % CHECKPOINT_EVERY:
            return
        self._save(layout.checkpoint(self.state.number), self.state.to_dict())
        # After it: a note without its checkpoint would be of no use.
        self._save(layout.forgotten(self.state.number), describe_forgotten(self._all_forgotten()))

    def _all_forgotten(self) -> dict[str, Forgotten]:
        state = self.state
        if state.since < 0:
            return state.forgotten
        try:
            return self._load_forgotten(state.since) | state.forgotten
        except (ObjectNotFound, IntegrityError):
            return self.history(state.number).forgotten  # once, where an older version has written

    def _save(self, key: str, content: Any) -> None:
        data = write_sealed(content, key=key, keyring=self._keyring, entropy=self._entropy)
        try:
            self._store.put(key, data)
        except ObjectExists:
            return  # it is a function of the entries, so whoever came first wrote the same


def describe_forgotten(forgotten: dict[str, Forgotten]) -> dict[str, Any]:
    """The content of a note of what was forgotten, oldest snapshot first."""
    return {"version": LOG_VERSION, "forgotten": [forgotten[name].to_dict() for name in sorted(forgotten)]}
