"""What was forgotten is noted beside the checkpoints, so that coverage need not read the whole log."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest

from moraine.model.policy_file import validate_policy
from moraine.model.snapshot import SnapshotRecord
from moraine.model.window import Window
from moraine.report.coverage import coverage
from moraine.repository import layout
from moraine.repository.log import CHECKPOINT_EVERY, Log
from moraine.repository.repository import Repository
from moraine.steps.check_findings import Findings
from moraine.steps.check_log import check_log
from moraine.stores.fault import FaultStore
from moraine.stores.memory import MemoryStore
from night import START, Clock, make_repository, open_repository

DAY = timedelta(days=1)
NIGHTS, KEPT = 150, 5
POLICY = validate_policy(
    {
        "policy": "p",
        "source": {"path": "/s"},
        "repository": {"url": "memory://"},
        "schedule": {"cron": "0 2 * * *", "start": f"{START:%Y-%m-%d}"},
    }
)


def record(night: int) -> SnapshotRecord:
    end = START + night * DAY
    name = f"{night:026d}"
    window = Window(end - DAY, end)
    return SnapshotRecord(name, "k", "d", "s", "p", "/s", "h", window, end, end, False, 1, 1, 1, 1, 0)


def live_nights(log: Log, first: int, last: int) -> None:
    """A commit each night, and a forget of what is older than the newest few."""
    for night in range(first, last):
        at = START + night * DAY
        log.append("commit", {"snapshot": record(night).to_dict(), "attempt": 1, "segments": []}, now=at)
        if night >= KEPT:
            items = [{"id": record(night - KEPT).id, "reason": "daily"}]
            log.append("forget", {"snapshots": items}, now=at)


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    log = make_repository(store, Clock()).log
    for first in range(1, NIGHTS, 10):  # as many processes, each opening the log anew
        live_nights(log, first, min(first + 10, NIGHTS))
        log = open_repository(store).log
    return store


def forgotten(store: MemoryStore) -> list[int]:
    return sorted(int(name) for name in open_repository(store).log.history().forgotten)


def requests(store: MemoryStore) -> tuple[int, dict[str, int]]:
    """How many coverage makes once the repository is open, and what it says."""
    counting = FaultStore(store)
    repository = Repository.open(counting, lambda: b"a test's passphrase", entropy=os.urandom)
    before = len(counting.calls)
    totals = coverage(repository, POLICY, now=START + NIGHTS * DAY).totals
    return len(counting.calls) - before, totals


def notes(store: MemoryStore) -> list[str]:
    return [info.key for info in store.list(layout.FORGOTTEN)]


def found_wrong(store: MemoryStore) -> list[str]:
    findings = Findings()
    check_log(open_repository(store), findings)
    return [problem.object for problem in findings.problems]


def test_coverage_reads_one_note_and_the_tail(store: MemoryStore) -> None:
    entries = len(open_repository(store).log.entries())
    assert entries > 4 * CHECKPOINT_EVERY
    count, totals = requests(store)
    assert count <= entries % CHECKPOINT_EVERY + 4  # two listings, a note, its checkpoint
    for key in notes(store):
        store.delete(key)
    assert requests(store) == (entries + 2, totals)
    assert totals["expired"] == NIGHTS - 1 - KEPT
    assert totals["on_time"] == KEPT


def test_every_note_is_what_the_entries_amount_to(store: MemoryStore) -> None:
    assert len(notes(store)) == len(list(store.list(layout.CHECKPOINTS)))
    assert found_wrong(store) == []
    key = notes(store)[-1]
    older = store.get(notes(store)[0])
    store.delete(key)
    store.put(key, older)
    assert found_wrong(store) == [key]


def test_a_note_that_is_damaged_or_alone_is_passed_by(store: MemoryStore) -> None:
    whole = forgotten(store)
    assert whole == list(range(1, NIGHTS - KEPT))
    *_, older, newest = notes(store)
    data = bytearray(store.get(newest))
    data[len(data) // 2] ^= 1
    store.delete(newest)
    store.put(newest, bytes(data))
    assert forgotten(store) == whole
    store.delete(layout.checkpoint(layout.log_number(older)))
    assert forgotten(store) == whole


def test_a_repository_of_an_older_version_gets_its_notes_with_the_next_checkpoint(store: MemoryStore) -> None:
    for key in notes(store):
        store.delete(key)
    live_nights(open_repository(store).log, NIGHTS, NIGHTS + 40)
    assert len(notes(store)) >= 1
    count, totals = requests(store)
    assert count <= CHECKPOINT_EVERY + 4
    assert totals["expired"] == NIGHTS  # up to the one that is asked for


def test_a_fold_that_began_before_a_checkpoint_of_others_knows_it_all(store: MemoryStore) -> None:
    long_lived = open_repository(store).log
    live_nights(open_repository(store).log, NIGHTS, NIGHTS + 40)
    live_nights(long_lived, NIGHTS + 40, NIGHTS + 80)
    assert forgotten(store) == list(range(1, NIGHTS + 80 - KEPT))
