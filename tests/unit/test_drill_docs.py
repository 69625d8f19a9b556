"""The policies on the page about drills are policies."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from moraine.model.policy_file import parse_policy

PAGE = (Path(__file__).parents[2] / "docs/DRILLS.md").read_text()
START = "policy: p\nsource: {path: /srv/lake}\nrepository: {url: /srv/repository}\n"


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
def test_a_policy_of_the_page_is_valid(block: str) -> None:
    parse_policy(START + block)


def test_the_plain_key_on_is_a_word() -> None:
    text = START + "notify: [{email: [a@example.org], on: [digest]}]\n"
    assert parse_policy(text).notify[0].on == ("digest",)
    assert parse_policy(text.replace("on:", '"on":')) == parse_policy(text)
