"""Checks what stands above the snapshots: configuration, key slots, the log entry by entry, its checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moraine.errors import DamagedObject, ForgedObject, MoraineError
from moraine.model.log import LogEntry, LogState
from moraine.repository import layout
from moraine.repository.documents import digest, read_open
from moraine.repository.log import describe_forgotten
from moraine.repository.repository import Repository
from moraine.repository.sealed_documents import read_sealed
from moraine.steps.check_findings import Findings


def check_log(repository: Repository, findings: Findings) -> None:
    """Read all of it again, whatever the repository had read when it was opened."""
    store, keyring = repository.store, repository.keyring
    with findings.guard("config", layout.CONFIG):
        read_open(store.get(layout.CONFIG), key=layout.CONFIG, keyring=keyring)
    slots = 0
    for info in store.list(layout.SLOTS):
        slots += 1
        with findings.guard("slot", info.key):
            read_open(store.get(info.key), key=info.key, keyring=None)
    if keyring.encrypted and not slots:
        findings.add("slot-missing", layout.SLOTS, "the repository has no key slot: nobody will be able to open it")
    findings.count("key_slots", slots)
    _check_entries(repository, findings)


def _check_entries(repository: Repository, findings: Findings) -> None:
    states = _Fold(repository, findings)
    numbers = []
    for info in repository.store.list(layout.LOG):
        if not info.key.startswith(layout.CHECKPOINTS):
            with findings.guard("log", info.key):
                numbers.append(layout.log_number(info.key))
    checkpoints = [info.key for info in repository.store.list(layout.CHECKPOINTS)]
    notes = {info.key for info in repository.store.list(layout.FORGOTTEN)}
    for number in range(max(numbers, default=-1) + 1):
        states.entry(number)
        if layout.checkpoint(number) in checkpoints:
            states.checkpoint(number)
        if layout.forgotten(number) in notes:
            states.forgotten(number)
    findings.count("log_entries", len(numbers))
    findings.count("checkpoints", len(checkpoints))
    for key in checkpoints:
        with findings.guard("checkpoint", key):
            if layout.log_number(key) > max(numbers, default=-1):
                raise ForgedObject(f"{key} is the state of an entry that the log does not have")


class _Fold:
    """The log read from its start; after damage the chain is taken up again at the next entry that is whole."""

    def __init__(self, repository: Repository, findings: Findings) -> None:
        self._repository = repository
        self._findings = findings
        self._state: LogState | None = LogState()  # None: some entry before could not be read
        self._previous: str | None = ""

    def entry(self, number: int) -> None:
        """One entry: there, authentic, and the successor of the one before."""
        key = layout.log_entry(number)
        previous, self._previous = self._previous, None
        state, self._state = self._state, None
        with self._findings.guard("log", key):
            data = self._repository.store.get(key)
            entry = self._parse(key, read_open(data, key=key, keyring=self._repository.keyring))
            self._previous = digest(data)
            if entry.number != number or previous not in (None, entry.previous):
                raise ForgedObject(f"{key} does not continue the log: its predecessor was another entry")
            if state is not None:
                state.apply(entry, digest(data))
                self._state = state

    def checkpoint(self, number: int) -> None:
        """One checkpoint: authentic, and what the entries up to there fold to."""
        self._compare(layout.checkpoint(number), lambda state: state.to_dict())

    def forgotten(self, number: int) -> None:
        """One note of what was forgotten up to there, likewise."""
        self._compare(layout.forgotten(number), lambda state: describe_forgotten(state.forgotten))

    def _compare(self, key: str, amounts_to: Callable[[LogState], Any]) -> None:
        with self._findings.guard("checkpoint", key):
            repository = self._repository
            content = read_sealed(repository.store.get(key), key=key, keyring=repository.keyring)
            if self._state is not None and content != amounts_to(self._state):
                raise ForgedObject(f"{key} is not what the log's entries up to it amount to")

    def _parse(self, key: str, content: Any) -> LogEntry:
        try:
            return LogEntry.from_dict(content)
        except (KeyError, TypeError, ValueError, MoraineError) as error:
            raise DamagedObject(f"{key} is no log entry: {error}") from error
