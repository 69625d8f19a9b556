"""retain, forget and hold against a real log, with others writing in between."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from moraine.errors import ConfigError, RepositoryError, SnapshotNotFound
from moraine.model.policy import Policy
from moraine.model.policy_file import validate_policy
from moraine.model.snapshot import SnapshotRecord
from moraine.model.window import Window
from moraine.repository.repository import Repository
from moraine.steps.hold import hold, release
from moraine.steps.retain import forget, retain
from moraine.stores.memory import MemoryStore

NOW = datetime(2026, 11, 21, 2, tzinfo=UTC)


def clock() -> datetime:
    return NOW


def repository_with(nights: int, policy: str = "lake") -> tuple[Repository, list[str]]:
    repository = Repository.create(MemoryStore(), passphrase=None, now=NOW, entropy=os.urandom)
    return repository, [commit(repository, NOW - timedelta(days=nights - 1 - n), policy) for n in range(nights)]


def commit(repository: Repository, end: datetime, policy: str = "lake") -> str:
    name = repository.new_id(end)
    window = Window(end - timedelta(days=1), end)
    record = SnapshotRecord(
        name, f"snapshots/{name}.json", "00", name, policy, "posix:/x", "h", window, end, end, False, 1, 2, 3, 4, 0
    )
    repository.log.append("commit", {"snapshot": record.to_dict(), "attempt": 1, "segments": []}, now=NOW)
    return name


def policy_with(keep: dict[str, object] | None, **schedule: str) -> Policy:
    data = {"policy": "lake", "source": {"path": "/x"}, "repository": {"url": "/r"}, "keep": keep}
    return validate_policy(data | ({"schedule": schedule} if schedule else {}))


def test_it_forgets_what_no_rule_keeps_and_says_why() -> None:
    repository, names = repository_with(5)
    result = retain(repository, policy_with({"daily": 2}), clock=clock)
    assert [item["snapshot"] for item in result.kept] == [names[4], names[3]]
    assert result.kept[0]["reasons"] == ["newest", "daily 1 of 2"]
    assert [item["snapshot"] for item in result.forgotten] == names[2::-1]
    assert set(repository.state.snapshots) == {names[4], names[3]}
    entry = repository.log.entries()[-1]
    assert entry.type == "forget"
    assert entry.body["snapshots"][0]["reason"] == "no rule keeps it (daily 2)"


def test_a_dry_run_writes_nothing() -> None:
    repository, names = repository_with(5)
    number = repository.state.number
    result = retain(repository, policy_with({"last": 1}), clock=clock, dry_run=True)
    assert len(result.forgotten) == 4
    assert repository.log.refresh().number == number
    assert len(repository.state.snapshots) == len(names)


def test_nothing_to_forget_writes_nothing() -> None:
    repository, _ = repository_with(2)
    number = repository.state.number
    retain(repository, policy_with({"daily": 5}), clock=clock)
    assert repository.log.refresh().number == number


def test_without_rules_everything_stays() -> None:
    repository, names = repository_with(3)
    result = retain(repository, policy_with(None), clock=clock)
    assert [item["snapshot"] for item in result.kept] == names[::-1]
    assert not result.forgotten


def test_other_policies_are_left_alone() -> None:
    repository, _ = repository_with(3)
    other = commit(repository, NOW - timedelta(days=300), "pond")
    retain(repository, policy_with({"last": 1}), clock=clock)
    assert other in repository.state.snapshots


def test_days_are_counted_in_the_schedules_zone() -> None:
    repository, _ = repository_with(0)
    evening = datetime(2026, 6, 1, 23, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    for end in (evening, evening + timedelta(hours=1)):
        commit(repository, end.astimezone(UTC))
    berlin = retain(repository, policy_with({"daily": 5}, timezone="Europe/Berlin"), clock=clock, dry_run=True)
    assert not berlin.forgotten
    assert len(retain(repository, policy_with({"daily": 5}), clock=clock, dry_run=True).forgotten) == 1


def test_a_snapshot_whose_proof_failed_later_is_not_the_last_proven() -> None:
    repository, names = repository_with(4)
    for name, passed in ((names[0], True), (names[1], True), (names[1], False)):
        repository.log.append("prove", {"snapshot": name, "passed": passed, "report": "r"}, now=NOW)
    result = retain(repository, policy_with({"last": 1}), clock=clock, dry_run=True)
    reasons = {item["snapshot"]: item["reasons"] for item in result.kept}
    assert reasons[names[0]] == ["last proven"]
    assert names[1] not in reasons


class Twin:
    """A store that lets somebody else write right before an object is put."""

    def __init__(self, inner: MemoryStore) -> None:
        self.inner, self.before = inner, []  # type: ignore[var-annotated]

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def put(self, key: str, data: bytes) -> None:
        while self.before and key.startswith("log/"):
            self.before.pop()()
        self.inner.put(key, data)


def twins(nights: int) -> tuple[Repository, Repository, Twin, list[str]]:
    """Two open repositories over one store; the first one's puts can be preceded by the second's."""
    repository, names = repository_with(nights)
    twin = Twin(repository.store)  # type: ignore[arg-type]
    mine = Repository.open(twin, lambda: b"", entropy=os.urandom)  # type: ignore[arg-type]
    return mine, repository, twin, names


def test_a_hold_that_comes_in_between_is_respected() -> None:
    mine, other, twin, names = twins(4)
    twin.before.append(lambda: hold(other, names[0], reason="audit", clock=clock))
    result = retain(mine, policy_with({"last": 1}), clock=clock)
    assert names[0] in mine.state.snapshots
    assert [item["snapshot"] for item in result.forgotten] == [names[2], names[1]]


def test_two_retains_at_once_forget_once() -> None:
    mine, other, twin, names = twins(4)
    twin.before.append(lambda: retain(other, policy_with({"last": 1}), clock=clock))
    result = retain(mine, policy_with({"last": 1}), clock=clock)
    assert result.forgotten == []
    assert list(mine.state.snapshots) == [names[3]]
    assert [entry.type for entry in mine.log.entries()].count("forget") == 1


def test_forget_by_name() -> None:
    repository, names = repository_with(3)
    assert [record.id for record in forget(repository, [names[1][-8:]], clock=clock)] == [names[1]]
    assert names[1] not in repository.state.snapshots
    with pytest.raises(SnapshotNotFound):
        forget(repository, [names[1]], clock=clock)


def test_what_is_held_cannot_be_forgotten_until_released() -> None:
    repository, names = repository_with(3)
    assert hold(repository, names[0], reason=" court ", clock=clock).held == "court"
    with pytest.raises(RepositoryError, match="on hold: court"):
        forget(repository, names, clock=clock)
    assert len(repository.state.snapshots) == 3
    assert release(repository, names[0], clock=clock).held is None
    number = repository.state.number
    release(repository, names[0], clock=clock)
    assert repository.state.number == number  # releasing twice writes once
    forget(repository, names[:1], clock=clock)


def test_a_hold_beats_a_forget_that_was_on_its_way() -> None:
    mine, other, twin, names = twins(3)
    twin.before.append(lambda: hold(other, names[0], reason="audit", clock=clock))
    with pytest.raises(RepositoryError, match="on hold"):
        forget(mine, [names[0]], clock=clock)
    assert names[0] in mine.state.snapshots


def test_holding_what_is_just_being_forgotten_fails() -> None:
    mine, other, twin, names = twins(3)
    twin.before.append(lambda: forget(other, [names[0]], clock=clock))
    with pytest.raises(SnapshotNotFound):
        hold(mine, names[0], reason="late", clock=clock)


def test_a_hold_needs_a_reason() -> None:
    repository, names = repository_with(1)
    with pytest.raises(ConfigError, match="needs a reason"):
        hold(repository, names[0], reason="  ", clock=clock)
