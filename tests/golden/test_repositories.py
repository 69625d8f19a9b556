"""Golden repositories: what any version wrote, every later one reads. They are kept for ever and never changed."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from make_repository import describe
from moraine.repository.repository import Repository
from moraine.steps.check import check_repository
from moraine.stores.local import LocalStore
from restored import restore

VERSIONS = sorted(Path(__file__).parent.glob("v[0-9]*"))


@pytest.mark.parametrize("kind", ["encrypted", "plain"])
@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)
def test_a_golden_repository_checks_out_and_restores(version: Path, kind: str, tmp_path: Path) -> None:
    shutil.copytree(version / kind, tmp_path / "repository")
    store = LocalStore(str(tmp_path / "repository"))
    secret = (version / "passphrase").read_bytes().strip()
    repository = Repository.open(store, lambda: secret, entropy=os.urandom)
    assert check_repository(repository, read_data=1.0, clock=lambda: datetime.now(UTC)).problems == []
    for record, expected in zip(
        repository.state.live("golden"), json.loads((version / "expected.json").read_text()), strict=True
    ):
        assert restore(repository, record.id, tmp_path / record.id).exit_code == 0
        assert describe(tmp_path / record.id) == expected


def test_there_is_one_of_the_present_format() -> None:
    assert [path.name for path in VERSIONS] == ["v1"]
