"""Proofs, with the real library: each way in which a manifest can be wrong is found, and the rows are named."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from moraine.errors import ConfigError, ProofFailed, SnapshotNotFound
from moraine.model.entry import Kind, State
from moraine.model.policy import Gate, Limits, Policy, PosixSource, Prove, RepositoryAddress
from moraine.model.snapshot import Snapshot, SnapshotRecord, Totals
from moraine.model.window import Window
from moraine.proof.expectations import SUITES, Judge
from moraine.proof.facts import Counts
from moraine.repository import layout
from moraine.repository.documents import digest
from moraine.repository.manifest import ManifestWriter
from moraine.repository.repository import Repository
from moraine.repository.sealed_documents import write_sealed
from moraine.steps import prove_manifest as manifest_step
from moraine.steps.prove import Proven, prove
from moraine.stores.memory import MemoryStore
from rows import manifest

NOW = datetime(2026, 11, 21, 2, tzinfo=UTC)
FILE: dict[str, Any] = {"digest": b"d" * 32, "session": "S1"}
DIRECTORY: dict[str, Any] = {"kind": Kind.DIRECTORY, "size": 0, "mode": 0o755}
LINK: dict[str, Any] = {"kind": Kind.SYMLINK, "size": 0, "mode": 0o777, "target": b"a/one"}
Entries = dict[bytes, dict[str, Any]]


def good() -> Entries:
    """A small tree in which nothing is wrong."""
    return {
        b"": DIRECTORY,
        b"a": DIRECTORY,
        b"a/one": FILE,
        b"a/two\xff": FILE | {"state": State.RACY},
        b"a/b": DIRECTORY,
        b"a/b/link": LINK,
        b"a/b/gone": {"state": State.DENIED},
        b"z": FILE | {"size": 1 << 40, "mode": 0o4755},
        b"pipe": {"kind": Kind.FIFO, "size": 0},
    }


def policy(**changes: Any) -> Policy:
    """A policy that samples nothing unless told to."""
    given = {"prove": Prove(sample_files=0), "repository": RepositoryAddress(url="/r")} | changes
    return Policy(policy="p", source=PosixSource(kind="posix", path="/data"), **given)


@pytest.fixture(params=["encrypted", "plain"])
def repository(request: pytest.FixtureRequest) -> Repository:
    secret = b"secret" if request.param == "encrypted" else None
    return Repository.create(MemoryStore(), passphrase=secret, now=NOW, entropy=random.Random(1).randbytes)


@pytest.fixture
def plain() -> Repository:
    return Repository.create(MemoryStore(), passphrase=None, now=NOW, entropy=random.Random(1).randbytes)


def commit(repository: Repository, rows: pa.Table, **totals: int) -> str:
    """Make a snapshot of these rows, as they are and in this order, without any content."""
    counts = Counts()
    counts.add(rows)
    recorded = Totals(
        files=counts.files, directories=counts.directories, others=counts.others, bytes=counts.bytes,
        denied=counts.unreadable,
    )  # fmt: skip
    writer = ManifestWriter(
        repository.store, repository.keyring, lambda kind: layout.shard(repository.new_id(NOW)), rows.num_rows
    )
    written = writer.write_first([rows])
    snapshot = Snapshot(
        id=repository.new_id(NOW), session="S1", run="r", attempt=1, policy="p", policy_digest="", source="posix:/data",
        host="h", window=Window(NOW, NOW), captured_at=NOW, finished_at=NOW, late=False, parent=None,
        totals=replace(recorded, **totals), shards=written.shards, deltas=(), sequence=0,
    )  # fmt: skip
    key = layout.snapshot(snapshot.id)
    data = write_sealed(snapshot.to_dict(), key=key, keyring=repository.keyring, entropy=repository.entropy)
    repository.store.put(key, data)
    record = SnapshotRecord(
        id=snapshot.id, key=key, digest=digest(data), session="S1", policy="p", source="posix:/data", host="h",
        window=snapshot.window, captured_at=NOW, finished_at=NOW, late=False, files=0, bytes=0, added=0, stored=0,
        unreadable=0,
    )  # fmt: skip
    repository.log.append("commit", {"snapshot": record.to_dict(), "attempt": 1, "segments": []}, now=NOW)
    return snapshot.id


def run(repository: Repository, snapshot: str, scratch: Path, rules: Policy | None = None) -> Proven:
    entropy = repository.entropy
    return prove(repository, rules or policy(), snapshot, clock=lambda: NOW, entropy=entropy, scratch=scratch)


def test_a_sound_manifest_is_proven_and_the_report_says_how(repository: Repository, tmp_path: Path) -> None:
    snapshot = commit(repository, manifest(good()))
    proven = run(repository, snapshot, tmp_path)
    assert proven.rows == 9
    report = repository.load_report(proven.report)
    assert report["passed"] and not report["problems"]
    assert report["counts"] == {
        "files": 4, "directories": 3, "others": 2, "bytes": (1 << 40) + 30, "unreadable": 1,
    }  # fmt: skip
    checked = report["validations"]["manifest"]
    assert checked["success"] and checked["statistics"]["evaluated_expectations"] == len(checked["results"]) == 16
    assert [r["result"]["element_count"] for r in checked["results"]] == [9] * 8 + [5] + [9] * 3 + [3, 5, 1, 8]
    assert report["versions"]["great_expectations"] == checked["meta"]["great_expectations_version"]
    assert any("1 entries that could not be read" in text for text in report["not_proven"])
    record = repository.state.snapshots[snapshot]
    assert record.proven == NOW and record.failed is None


BREAKS: list[tuple[str, Callable[[Entries], object], list[str]]] = [
    ("every captured file has a content digest", lambda t: t[b"a/one"].update(digest=None), ["a/one"]),
    ("every captured file has a content digest", lambda t: t[b"a/two\xff"].update(digest=None), ["a/two\\xff"]),
    ("only files have a content digest", lambda t: t[b"a/b"].update(digest=b"d" * 32), ["a/b"]),
    ("every captured symlink has a target", lambda t: t[b"a/b/link"].update(target=None), ["a/b/link"]),
    ("only symlinks have a target", lambda t: t[b"z"].update(target=b"x"), ["z"]),
    ("the mode holds permission bits alone", lambda t: t[b"z"].update(mode=0o10000), ["z"]),
    ("the kind is a known one", lambda t: t[b"pipe"].update(kind=9), ["pipe"]),
    ("the state is a known one", lambda t: t[b"z"].update(state=5), ["z"]),
    ("sizes are not negative", lambda t: t[b"a/one"].update(size=-1), ["a/one"]),
    ("only files have a size", lambda t: t[b"a"].update(size=4096), ["a"]),
    ("the nanoseconds of mtime", lambda t: t[b"z"].update(mtime_ns=1_000_000_000), ["z"]),
    ("the nanoseconds of ctime", lambda t: t[b"z"].update(ctime_ns=-1), ["z"]),
    ("the directory of every row", lambda t: t.pop(b"a/b"), ["a/b/gone", "a/b/link"]),
    ("the directory of every row", lambda t: t[b"a/b"].update(LINK), ["a/b/gone", "a/b/link"]),
    ("a name is neither empty", lambda t: t.update({b"a/..": FILE, b"x\0y": FILE}), ["x\\x00y", "a/.."]),
]


@pytest.mark.parametrize(("what", "break_it", "rows"), BREAKS)
def test_a_broken_row_fails_the_proof_and_is_named(
    plain: Repository, tmp_path: Path, what: str, break_it: Callable[[Entries], object], rows: list[str]
) -> None:
    entries = {path: dict(values) for path, values in good().items()}
    break_it(entries)
    snapshot = commit(plain, manifest(entries))
    with pytest.raises(ProofFailed, match=what) as failure:
        run(plain, snapshot, tmp_path)
    assert failure.value.context["rows"] == rows
    assert rows[0] in (failure.value.hint or "")
    report = plain.load_report(failure.value.context["report"])
    assert not report["passed"] and report["problems"][0]["rows"] == rows
    assert plain.state.snapshots[snapshot].failed == NOW


def shuffled(table: pa.Table) -> pa.Table:
    return table.take([0, 1, 3, 2, *range(4, table.num_rows)])


def doubled(table: pa.Table) -> pa.Table:
    return table.take([0, 1, 2, 2, *range(3, table.num_rows)])


@pytest.mark.parametrize("window", [2, 1 << 17])
def test_rows_out_of_order_and_twice(
    plain: Repository, tmp_path: Path, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest_step, "WINDOW", window)
    with pytest.raises(ProofFailed, match="comes after the row before it") as failure:
        run(plain, commit(plain, shuffled(manifest(good()))), tmp_path)
    assert failure.value.context["rows"] == ["pipe"]
    with pytest.raises(ProofFailed) as failure:
        run(plain, commit(plain, doubled(manifest(good()))), tmp_path)
    assert failure.value.context["rows"] == ["pipe"]


def test_totals_and_limits_are_held_against_the_snapshot(plain: Repository, tmp_path: Path) -> None:
    with pytest.raises(ProofFailed, match=r"as many files .*4, 5"):
        run(plain, commit(plain, manifest(good()), files=5), tmp_path)
    with pytest.raises(ProofFailed, match="as many bytes"):
        run(plain, commit(plain, manifest(good()), bytes=5), tmp_path)
    snapshot = commit(plain, manifest(good()))
    for limits in (Limits(unreadable_files=0), Limits(unreadable_share=0.2)):
        with pytest.raises(ProofFailed, match="no more entries are unreadable"):
            run(plain, snapshot, tmp_path, policy(limits=limits, gate=Gate(min_files_for_shares=0)))
    few = policy(limits=Limits(unreadable_share=0.0))  # 4 files are below the minimum for shares
    assert run(plain, snapshot, tmp_path, few).rows == 9


def test_a_broken_manifest_names_twenty_rows_and_counts_all(plain: Repository, tmp_path: Path) -> None:
    entries = good() | {b"a/f%04d" % n: {"size": 0, "mode": 0o10000, "session": "S1"} for n in range(1000)}
    with pytest.raises(ProofFailed) as failure:
        run(plain, commit(plain, manifest(entries)), tmp_path)
    assert failure.value.context["rows"] == [f"a/f{n:04d}" for n in range(20)]
    report = plain.load_report(failure.value.context["report"])
    assert [len(problem["rows"]) for problem in report["problems"]] == [20, 20]
    failed = [r for r in report["validations"]["manifest"]["results"] if not r["success"]]
    assert [r["result"]["unexpected_count"] for r in failed] == [1000, 1000]


def test_a_damaged_manifest_is_a_failed_proof(repository: Repository, tmp_path: Path) -> None:
    snapshot = commit(repository, manifest(good()))
    key = repository.snapshot(snapshot).shards[0].key
    data = bytearray(repository.store.get(key))
    data[len(data) // 2] ^= 1
    repository.store.delete(key)
    repository.store.put(key, data)
    with pytest.raises(ProofFailed, match=f"{key} does not match its digest") as failure:
        run(repository, snapshot, tmp_path)
    report = repository.load_report(failure.value.context["report"])
    assert report["problems"][0]["code"] == "damaged-object"
    assert report["validations"]["totals"]["success"] is None
    assert repository.state.snapshots[snapshot].failed == NOW


def test_an_unknown_snapshot_leaves_no_report(plain: Repository, tmp_path: Path) -> None:
    with pytest.raises(SnapshotNotFound):
        run(plain, "01NOTTHERE", tmp_path)
    assert not list(plain.store.list(layout.REPORTS))


def test_the_built_in_suites_are_whole(tmp_path: Path) -> None:
    """The library drops expectations it does not understand; a judge must not."""
    assert len(Judge(SUITES / "manifest.json").findings) == 16
    assert len(Judge(SUITES / "totals.json").findings) == 6
    broken = tmp_path / "suite.json"
    broken.write_text('{"name": "mine", "expectations": [{"type": "expect_the_moon", "kwargs": {}}]}')
    with pytest.raises(ConfigError, match=r"expectation 0 of suite mine \(expect_the_moon\)"):
        Judge(broken)
    broken.write_text('{"name": "mine"')
    with pytest.raises(ConfigError, match=r"suite\.json is no expectation suite"):
        Judge(broken)


def test_an_expectation_that_cannot_be_computed_fails(tmp_path: Path) -> None:
    path = tmp_path / "suite.json"
    path.write_text('{"name": "s", "expectations": [{"type": "expect_column_max_to_be_between",'
                    ' "kwargs": {"column": "nowhere", "min_value": 1}}]}')  # fmt: skip
    judge = Judge(path)
    assert not judge.judge(pa.table({"x": [1]}), str)
    assert "could not be computed" in judge.findings[0].line() and "nowhere" in judge.findings[0].line()
