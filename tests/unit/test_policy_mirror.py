"""Policies whose destination is a mirror."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from moraine.errors import ConfigError
from moraine.model.policy_file import parse_policy

MIRROR = "policy: m\nsource: {path: /srv, exclude: ['*.tmp']}\ndestination: {kind: mirror, url: /mnt/m}\n"


def test_a_mirror_keeps_its_own_repository_and_leaves_out_that_of_its_source() -> None:
    policy = parse_policy(MIRROR)
    assert policy.destination is not None
    assert policy.repository.url == "/mnt/m/.moraine"
    assert policy.source.exclude == ("*.tmp", "/.moraine")
    assert policy.destination.trash.keep == timedelta(days=30)


def test_paths_count_from_the_policy_file(tmp_path: Path) -> None:
    policy = parse_policy("policy: m\nsource: {path: a}\ndestination: {url: ../m}\n", folder=tmp_path / "policies")
    assert policy.destination is not None
    assert policy.destination.url == str(tmp_path / "m")
    assert policy.repository.url == str(tmp_path / "m/.moraine")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MIRROR + "repository: {url: /elsewhere}\n", "either `repository` or `destination`"),
        (MIRROR.replace("kind: mirror", "kind: tape"), "destination.kind"),
        (MIRROR.replace("url: /mnt/m", "trash: {keep: soon}, url: /mnt/m"), "destination.trash.keep"),
        (MIRROR.replace("url: /mnt/m", "drfit: heal, url: /mnt/m"), "did you mean 'destination.drift'"),
        ("policy: m\nsource: {path: /srv}\n", "'repository' is missing"),
        ("policy: m\nsource: {path: /srv}\ndestination: {kind: mirror}\n", "'destination.url' is missing"),
    ],
)
def test_mistakes_are_named(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_policy(text)
    assert said in str(caught.value)


def test_explained() -> None:
    text = parse_policy(MIRROR).explain()
    assert "a plain tree at /mnt/m" in text
    assert "stays in its trash for" in text
