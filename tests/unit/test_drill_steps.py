"""Drills over real backups: green when all is well, and caught with the right reason, one sabotage after another."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from drilling import Lake
from moraine.errors import ConfigError, ProofFailed, SnapshotNotFound
from moraine.model.snapshot import Totals
from moraine.repository import documents, layout, sealed_documents
from moraine.steps.drill_pick import pick_snapshot
from moraine.steps.drill_place import DrillPlace, require_apart, sweep
from moraine.steps.drill_report import require_passed


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(tmp_path)
    made.night()
    return made


def failing(report: dict[str, Any]) -> list[str]:
    return [f"{check['subject']}: {check['name']}" for check in report["checks"] if not check["passed"]]


def test_a_whole_drill_of_a_sound_snapshot_passes_and_leaves_nothing(lake: Lake) -> None:
    source = sorted(lake.source.rglob("*"))
    found, report = lake.drill(lake.policy(run={"command": ["sqlite3", "catalog.sqlite", "pragma quick_check"]}))
    assert found.passed, found.reasons
    assert found.sound and not report["reasons"] and failing(report) == []
    measured = report["measured"]
    assert measured["files"] == 26 and measured["bytes"] == report["planned"]["bytes"] == measured["full_bytes"]
    assert measured["seconds"] > 0 and measured["bytes_per_second"] > 0
    assert report["answered"]["said"].strip() == "ok"
    assert len(report["planned"]["parts"]) == 4 and report["seed"] == 7
    assert {check["subject"] for check in report["checks"]} >= {"manifest", "content of part 1 of 4", "all files"}
    assert lake.leftovers() == []
    assert sorted(lake.source.rglob("*")) == source
    entry = lake.repository.log.entries()[-1]
    assert (entry.type, entry.body["passed"], entry.body["kind"]) == ("prove", True, "drill")
    assert lake.repository.state.snapshots[found.snapshot].proven is not None


def test_a_sample_is_drawn_by_its_seed_within_its_bounds_and_says_what_it_left_out(lake: Lake) -> None:
    policy = lake.policy(restore="sample", sample={"files": 6, "bytes": "1MiB"}, parts=2)
    (first, one), (_, two) = lake.drill(policy), lake.drill(policy)
    assert first.passed, first.reasons
    assert one["planned"]["files"] == 6 and one["planned"]["bytes"] <= 1 << 20
    assert [part["files"] for part in one["planned"]["parts"]] == [part["files"] for part in two["planned"]["parts"]]
    assert one["planned"]["bytes"] == two["planned"]["bytes"]
    said = "; ".join(one["not_proven"])
    assert "the content of 20 of 26 files" in said and "1 files larger than drill.sample.bytes" in said
    other = lake.drill(policy, seed=8)[1]
    assert other["seed"] == 8 and other["planned"]["bytes"] != one["planned"]["bytes"]


def test_value_and_age_weigh(lake: Lake) -> None:
    policy = lake.policy(restore="sample", sample={"files": 3, "value": {"orders/**": 1000, "**": 0}})
    _, report = lake.drill(policy)
    assert report["planned"]["files"] == 3 and not report["reasons"]
    assert report["planned"]["bytes"] == sum(p.stat().st_size for p in lake.source.glob("orders/*/*"))


def test_a_flipped_byte_in_a_pack_puts_the_snapshot_into_quarantine_and_the_next_backup_heals_it(lake: Lake) -> None:
    for key in lake.packs():
        lake.damage(key)
    found, report = lake.drill()
    assert not found.passed and found.sound is False
    assert any("entries that did not come back" in reason for reason in found.reasons)
    assert report["again"] and lake.leftovers() == []
    assert lake.repository.state.snapshots[found.snapshot].failed is not None
    with pytest.raises(ProofFailed, match="failed"):
        require_passed(found)
    healed = lake.night()
    assert healed != found.snapshot
    assert lake.drill(name=healed)[0].passed
    assert lake.drill(name=found.snapshot)[0].passed, "the old snapshot comes back too, from what was stored anew"
    assert lake.repository.state.snapshots[found.snapshot].failed is None


def test_a_sample_says_nothing_against_an_earlier_failure(lake: Lake) -> None:
    snapshot = lake.repository.find("latest").id
    lake.repository.log.append("prove", {"snapshot": snapshot, "report": "x", "passed": False}, now=lake.clock())
    found, _ = lake.drill(whole=False)
    assert found.passed and found.sound
    assert lake.repository.state.snapshots[snapshot].failed is not None


def test_a_missing_pack_is_named(lake: Lake) -> None:
    gone = lake.packs()[0]
    lake.store.delete(gone)
    found, report = lake.drill()
    assert not found.passed and found.sound is False and lake.leftovers() == []
    assert any(gone in check["detail"] for check in report["checks"])


def test_a_manifest_with_a_row_too_few_is_caught_before_anything_is_restored(lake: Lake) -> None:
    repository = lake.repository
    record = repository.find("latest")
    snapshot = repository.snapshot(record.id)
    more = replace(snapshot.totals, files=snapshot.totals.files + 1)
    assert isinstance(more, Totals)
    rewrite(lake, record.id, replace(snapshot, totals=more).to_dict())
    found, report = lake.drill()
    assert not found.passed and found.sound is False
    assert any("manifest" in reason and "files" in reason for reason in found.reasons), found.reasons
    assert report["measured"] is None and lake.leftovers() == []


def rewrite(lake: Lake, snapshot: str, content: dict[str, Any]) -> None:
    """Replace a snapshot object as one who holds the keys and forges the log could."""
    repository = lake.repository
    key = layout.snapshot(snapshot)
    data = sealed_documents.write_sealed(content, key=key, keyring=repository.keyring, entropy=os.urandom)
    lake.store.delete(key)
    lake.store.put(key, data)
    number = next(entry.number for entry in repository.log.entries() if entry.type == "commit")
    previous = ""
    for entry in repository.log.entries():
        name = layout.log_entry(entry.number)
        if entry.number >= number:
            changed = entry.to_dict() | {"previous": previous}
            if entry.number == number:
                changed["body"]["snapshot"]["digest"] = documents.digest(data)
            lake.store.delete(name)
            lake.store.put(name, documents.write_open(changed, key=name, keyring=repository.keyring))
        previous = documents.digest(lake.store.get(name))


def test_a_restore_too_slow_for_the_objective_fails_the_drill_but_not_the_snapshot(lake: Lake) -> None:
    found, report = lake.drill(lake.policy(objectives={"rto": "1h", "recall": "2h"}))
    assert not found.passed and found.sound is True
    assert found.reasons == ["a full restore is forecast to take 2 hours, the objective (rto) is 1 hour"] or (
        "the objective (rto) is 1 hour" in found.reasons[0]
    )
    assert lake.repository.state.snapshots[found.snapshot].proven is not None
    assert lake.drill(lake.policy(objectives={"rto": "3h", "recall": "2h"}))[0].passed
    assert report["measured"]["recall_seconds"] == 7200


def test_a_sample_forecasts_by_the_slower_of_bytes_and_files(lake: Lake) -> None:
    policy = lake.policy(restore="sample", sample={"files": 5, "bytes": "1MiB"}, objectives={"rto": "1d"})
    measured = lake.drill(policy)[1]["measured"]
    by_bytes = measured["seconds"] * measured["full_bytes"] / measured["bytes"]
    assert measured["forecast_seconds"] == pytest.approx(by_bytes)


def test_an_application_that_hangs_is_killed_with_all_it_has_started(lake: Lake) -> None:
    script = "sleep 300 & setsid sleep 301 & sleep 302"
    began = time.monotonic()
    found, report = lake.drill(lake.policy(run={"command": ["sh", "-c", script], "timeout": "1s"}))
    assert time.monotonic() - began < 30
    assert not found.passed and found.sound is False
    assert "killed at its time limit" in found.reasons[0]
    assert report["answered"]["code"] is None
    seen = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
    assert [words for words in seen if words in (["sleep", "300"], ["sleep", "301"], ["sleep", "302"])] == []
    assert lake.leftovers() == []


def test_an_application_sees_the_tree_and_no_secret(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MORAINE_PASSPHRASE_FILE", "/secret")
    found, report = lake.drill(lake.policy(run={"command": ["sh", "-c", "env; ls; exit 4"]}))
    said = report["answered"]["said"]
    assert "large.bin" in said and "MORAINE_ROOT=" in said and "secret" not in said
    assert not found.passed and "expected 0, found 4" in found.reasons[0]


def test_a_callable_is_an_application(lake: Lake) -> None:
    assert lake.drill(lake.policy(run={"callable": "drilling_application:counts"}))[0].passed
    found, report = lake.drill(lake.policy(run={"callable": "drilling_application:refuses"}))
    assert not found.passed and "returned False" in report["answered"]["said"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 4 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a file system cannot be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_place_without_room_is_refused_before_anything_is_restored(lake: Lake, small_disk: Path) -> None:
    found, report = lake.drill(lake.policy(place={"path": str(small_disk)}))
    assert not found.passed and found.sound is None
    assert found.reasons[0].startswith("plan: the drill would restore 9.") and "free" in found.reasons[0]
    assert report["restored"] == [] and list(small_disk.iterdir()) == []
    assert lake.repository.state.snapshots[found.snapshot].failed is None


def test_a_disk_that_fills_up_meanwhile_says_nothing_about_the_snapshot(
    lake: Lake, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moraine.steps.drill_place.free_bytes", lambda base: 1 << 40)  # as it was when it was planned
    found, _ = lake.drill(lake.policy(place={"path": str(small_disk)}))
    assert not found.passed and found.sound is None
    assert found.reasons[0].startswith("restore: ") and "space" in found.reasons[0]
    assert list(small_disk.iterdir()) == []


def test_a_quota_holds(lake: Lake) -> None:
    found, _ = lake.drill(lake.policy(place={"path": str(lake.place), "quota": "1MiB"}))
    assert not found.passed and found.sound is None and "its quota is 1.0 MiB" in found.reasons[0]


@pytest.mark.parametrize("where", ["lake", "lake/below", ".", "repository", "repository/x", "link/y"])
def test_a_place_that_has_to_do_with_source_or_repository_is_refused(lake: Lake, where: str) -> None:
    (lake.folder / "link").symlink_to(lake.source)
    found, _ = lake.drill(lake.policy(place={"path": str(lake.folder / where)}))
    assert not found.passed and found.sound is None and "the place of the drill" in found.reasons[0]
    with pytest.raises(ConfigError):
        require_apart(lake.folder / where, lake.policy(), lake.repository)


def test_what_a_dead_drill_left_is_removed_by_the_next_or_when_it_has_expired(lake: Lake) -> None:
    mine, others = (DrillPlace(lake.place, lake.repository.new_id(lake.clock())) for _ in range(2))
    for place, owner in ((mine, "me"), (others, "other")):
        place.make(owner=owner, policy="lake", now=lake.clock(), expires=timedelta(days=1))
        (place.tree / "closed").mkdir(mode=0o000)
    assert sweep(lake.place, now=lake.clock(), ended=lambda owner: owner == "me") == [mine.drill]
    assert not mine.root.exists() and others.tree.exists()
    lake.drill()
    assert others.tree.exists(), "another's drill may still be at work"
    lake.clock.advance(days=2)
    lake.drill()
    assert lake.leftovers() == []


def test_picks_follow_their_seed_and_reach_every_snapshot(lake: Lake) -> None:
    names = [lake.repository.find("latest").id, *(lake.night() for _ in range(5))]

    def picked(pick: str, seed: int) -> str:
        policy = lake.policy(pick=pick)
        return pick_snapshot(lake.repository, policy, clock=lake.clock, entropy=os.urandom, seed=seed).snapshot

    assert {picked("latest", seed) for seed in range(3)} == {names[-1]}
    for pick in ("random", "stratified"):
        assert picked(pick, 3) == picked(pick, 3)
        assert {picked(pick, seed) for seed in range(60)} == set(names)
    with pytest.raises(SnapshotNotFound):
        pick_snapshot(lake.repository, replace(lake.policy(), policy="none"), clock=lake.clock, entropy=os.urandom)


def test_the_table_and_the_page_are_kept_with_the_report(lake: Lake) -> None:
    found, report = lake.drill()
    table = lake.repository.load_report_table(report["table"])
    assert table.num_rows == found.checks and set(table["snapshot"].to_pylist()) == {found.snapshot}
    assert all(table["check_passed"].to_pylist())
    page = lake.repository.load_report(report["page"])["html"]
    assert page.startswith("<!doctype html>") and found.snapshot in page and "http" not in page
