"""Policies: files in, frozen models or one readable sentence per mistake out."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from datetime import date, timedelta
from pathlib import Path

import pytest

from moraine.errors import ConfigError, UnsafeRetention
from moraine.model.cron import check_cron, say_cron
from moraine.model.policy import Keep, S3Source
from moraine.model.policy_file import load_policies, load_policy, parse_policy, policy_schema, validate_policy
from moraine.model.policy_types import plain
from moraine.model.units import (
    format_duration,
    format_share,
    format_size,
    parse_duration,
    parse_seconds,
    parse_share,
    parse_size,
)

SCHEMA = Path(__file__).parents[2] / "include" / "policies" / "schema.json"
MINIMAL = """
policy: lake
source:
  path: /srv/lake
repository:
  url: s3://bucket/prefix
"""
FULL = """
policy: lake
description: the data lake
source:
  kind: posix
  path: /srv/lake
  exclude: ["*.tmp", "/scratch/", "!keep.tmp"]
  exclude_larger_than: 1.5GiB
repository:
  url: /backup/lake
schedule:
  cron: 30 2 * * mon-fri
  timezone: Europe/Berlin
  start: 2026-01-01
rehash: 0.1%
racy_window: 500ms
gate: {max_deleted_share: 20%, canaries: [a/b.txt]}
keep: {daily: 7, weekly: 4, within: 36h}
"""


def test_defaults_protect() -> None:
    policy = parse_policy(MINIMAL)
    assert policy.keep is None
    assert policy.schedule is None
    assert policy.verify.depth == "sample"
    assert policy.gate.max_deleted_share == 0.5
    assert not policy.gate.allow_empty
    assert policy.source.compare.ctime
    assert policy.source.compare.inode


def test_units_are_typed() -> None:
    policy = parse_policy(FULL)
    assert policy.source.exclude == ("*.tmp", "/scratch/", "!keep.tmp")
    assert policy.source.exclude_larger_than == 1536 << 20
    assert policy.rehash == pytest.approx(0.001)
    assert policy.racy_window == 0.5
    assert policy.gate.max_deleted_share == pytest.approx(0.2)
    assert policy.keep is not None
    assert policy.keep.within == timedelta(hours=36)
    assert policy.schedule is not None
    assert policy.schedule.start == date(2026, 1, 1)


def test_a_policy_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        parse_policy(MINIMAL).description = "x"  # type: ignore[misc]


def test_digest_follows_the_content() -> None:
    one, same = parse_policy(FULL), parse_policy(FULL.replace("36h", "1d12h"))
    assert one.digest == same.digest
    assert len(one.digest) == 64
    assert one.digest != parse_policy(FULL.replace("weekly: 4", "weekly: 5")).digest


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("exclude:", "exlude:", "p.yaml:7: unknown key 'source.exlude'; did you mean 'source.exclude'?"),
        ("rehash:", "daily: 3\nrehash:", "p.yaml:15: unknown key 'daily'; did you mean 'keep.daily'?"),
        ("policy: lake", "polcy: lake", "p.yaml:2: unknown key 'polcy'; did you mean 'policy'?; and 1 more"),
        ("policy: lake", "policy: 7", "p.yaml:2: 'policy' must be text, not 7"),
        ("policy: lake", "policy: a b", "p.yaml:2: 'policy' must be letters, digits"),
        ("0.1%", "101%", "p.yaml:15: 'rehash' must be a share such as 5% or 0.05, from 0 to 100%, not '101%'"),
        ("1.5GiB", "1.5Gigs", "p.yaml:8: 'source.exclude_larger_than' must be a size such as 64MiB, 1.5GB"),
        ("500ms", "5 parsecs", "p.yaml:16: 'racy_window' must be a duration such as 7d"),
        ("Europe/Berlin", "Mars", "p.yaml:13: 'schedule.timezone' must be an IANA time zone such as Europe/Berlin"),
        (
            "30 2 *",
            "61 2 *",
            "p.yaml:12: 'schedule.cron' must be a cron expression (its minute, '61', is none of 0 to 59)",
        ),
        ("kind: posix", "kind: zfs", "p.yaml:5: 'source.kind' must be 'posix' or 's3', not 'zfs'"),
        ("  path: /srv/lake\n", "", "p.yaml:4: 'source.path' is missing"),
        ("[a/b.txt]", "a/b.txt", "p.yaml:17: 'gate.canaries' must be a list, not 'a/b.txt'"),
        (
            "policy: lake",
            "policy: lake\npolicy: pond",
            "p.yaml:3: not valid YAML: the key 'policy' stands twice, first in line 2",
        ),
        ("start: 2026-01-01", "catchup: true", "p.yaml:11: 'schedule': `catchup` needs a `start`"),
        ("policy: lake", "policy: [lake", "not valid YAML"),
        ("policy: lake", "---\npolicy: lake\n---\na: 1\n", "expected a single document"),
    ],
)
def test_mistakes_name_file_line_and_key(old: str, new: str, message: str) -> None:
    assert old in FULL
    with pytest.raises(ConfigError) as caught:
        parse_policy(FULL.replace(old, new), "p.yaml")
    assert message in caught.value.message
    assert "\n" not in caught.value.line()


@pytest.mark.parametrize("keep", ["{}", "{daily: 0}", "{daly: 7}", "{daily: -1}", "{daily: seven}", "{daily: true}"])
def test_unsafe_retention_is_refused(keep: str) -> None:
    text = FULL.replace("{daily: 7, weekly: 4, within: 36h}", keep)
    with pytest.raises(UnsafeRetention) as caught:
        parse_policy(text, "p.yaml")
    assert "p.yaml:18" in caught.value.message


def test_keep_from_code_is_checked_too() -> None:
    with pytest.raises(UnsafeRetention):
        Keep(daily=0)


def test_all_problems_are_listed() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_policy(FULL.replace("exclude:", "exlude:").replace("0.1%", "x"))
    assert len(caught.value.context["problems"]) == 2


@pytest.mark.parametrize("text", ["", "just words", "- a\n- b\n", "null"])
def test_a_policy_is_a_mapping(text: str) -> None:
    with pytest.raises(ConfigError, match="mapping of keys"):
        parse_policy(text)


def test_a_self_referring_file_ends() -> None:
    with pytest.raises(ConfigError, match="nested too deeply"):
        parse_policy("a: &a\n  b: *a\n")


def test_relative_paths_count_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    text = MINIMAL.replace("/srv/lake", "../lake").replace("s3://bucket/prefix", "repo\n  passphrase_file: pass")
    file.write_text(text.replace("path: ../lake", "path: ../lake\n  exclude_files: [skip, /etc/skip]"))
    policy = load_policy(file)
    assert policy.source.path == str(tmp_path.parent / "lake")
    assert policy.repository.url == str(tmp_path / "repo")
    assert policy.repository.passphrase_file == str(tmp_path / "pass")
    assert policy.source.exclude_files == (str(tmp_path / "skip"), "/etc/skip")


def test_urls_are_no_paths(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(MINIMAL)
    assert load_policy(tmp_path / "p.yaml").repository.url == "s3://bucket/prefix"


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no policy file"):
        load_policy(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"policy: caf\xe9")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_policy(tmp_path / "latin.yaml")


def test_one_bad_file_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(MINIMAL.replace("lake", "a"))
    (tmp_path / "b.yml").write_text("policy: [")
    (tmp_path / "c.yaml").write_text(MINIMAL.replace("lake", "c"))
    (tmp_path / ".hidden.yaml").write_text("nonsense")
    (tmp_path / "notes.txt").write_text("nonsense")
    good, broken = load_policies(tmp_path)
    assert [policy.policy for policy in good] == ["a", "c"]
    assert [item.path.name for item in broken] == ["b.yml"]


def test_the_file_named_like_the_policy_wins(tmp_path: Path) -> None:
    (tmp_path / "a-copy.yaml").write_text(MINIMAL.replace("/srv/lake", "/copy"))
    (tmp_path / "lake.yaml").write_text(MINIMAL)
    (tmp_path / "zzz.yaml").write_text(MINIMAL)
    good, broken = load_policies(tmp_path)
    assert [policy.source.path for policy in good] == ["/srv/lake"]
    assert sorted(item.path.name for item in broken) == ["a-copy.yaml", "zzz.yaml"]
    assert "already used by lake.yaml" in broken[0].error.message


def test_schema_file_is_current() -> None:
    assert json.loads(SCHEMA.read_text()) == policy_schema(), "write it anew: moraine policy schema > " + str(SCHEMA)


def test_every_key_is_described() -> None:
    schema = policy_schema()
    for part in [schema, *schema["$defs"].values()]:
        for name, field in part["properties"].items():
            assert field.get("description") or name == "kind", f"{part['title']}.{name}"


def test_explanation_answers_the_questions() -> None:
    lines = dict(line.split(": ", 1) for line in parse_policy(FULL).explain().split("\n"))
    assert lines == {
        "lake": "the data lake",
        "What": "everything under /srv/lake except '*.tmp', '/scratch/' and '!keep.tmp' and files larger than 1.5 GiB.",
        "Where": "/backup/lake.",
        "When": "Monday to Friday at 02:30 (Europe/Berlin) from 2026-01-01 on."
        " A late run captures what is there and says so; missed windows are not caught up.",
        "Guards": "nothing is committed on an empty source, more than 20% of the files deleted, a change to a/b.txt"
        " or more than 10% unreadable.",
        "Verified": "before the commit new packs are checked and 5% of their chunks hashed.",
        "Proven": "after the commit 20 files (at most 256 MiB) are restored and compared by hash.",
        "Rehearsed": "every Sunday at 00:00 500 files (at most 1.0 GiB) of a snapshot drawn by age and size are"
        " restored to a place apart and checked.",
        "Kept": "7 daily, 4 weekly and all of the last 1 day 12 hours before the newest;"
        " always the newest, the last proven one and those on hold.",
    }


def test_the_unit_parsers() -> None:
    assert [parse_size(text) for text in ("0", "64MiB", "1.5 kB", 7, "2TiB")] == [0, 64 << 20, 1500, 7, 2 << 40]
    assert parse_duration("1w 2d3h4min5s").total_seconds() == 788645
    assert parse_seconds(2) == 2.0
    assert parse_seconds("2m") == 120.0
    assert parse_share("5 %") == 0.05
    assert parse_share(1) == 1.0


@pytest.mark.parametrize("bad", ["", "5", "d", "5x", "-5d", "5d!", None, 5, True])
def test_bad_durations(bad: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(bad)


@pytest.mark.parametrize("bad", ["", "MiB", "-1", "1e9", "5 XB", None, 1.5, True])
def test_bad_sizes(bad: object) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(bad)


def test_units_as_text() -> None:
    sizes = [0, 1023, 1024, 1536, 1023 * 1024, 1024**2 - 1, 5 << 30, -2048]
    assert [format_size(size) for size in sizes] == [
        "0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1023 KiB", "1.0 MiB", "5.0 GiB", "-2.0 KiB",
    ]  # fmt: skip
    spans = [
        timedelta(days=14),
        timedelta(days=8),
        timedelta(hours=36),
        timedelta(seconds=1),
        timedelta(milliseconds=500),
    ]
    assert [format_duration(span) for span in spans] == ["2 weeks", "8 days", "1 day 12 hours", "1 second", "500 ms"]
    assert format_share(0.001) == "0.1%"


@pytest.mark.parametrize(
    ("cron", "text"),
    [
        ("30 2 * * *", "every day at 02:30"),
        ("@daily", "every day at 00:00"),
        ("0 * * * *", "every hour at :00"),
        ("*/15 * * * *", "every 15 minutes"),
        ("5 */6 * * *", "every 6 hours at :05"),
        ("0 3 * * 0", "every Sunday at 03:00"),
        ("0 3 * * mon,thu", "every Monday and Thursday at 03:00"),
        ("0 3 1 * *", "on day 1 of every month at 03:00"),
        ("0 3 1 1 *", "at the times of the cron expression '0 3 1 1 *'"),
        ("0 0 1-5/2 JAN,jul 1-5", "at the times of the cron expression '0 0 1-5/2 JAN,jul 1-5'"),
    ],
)
def test_cron_in_english(cron: str, text: str) -> None:
    assert say_cron(check_cron(cron)) == text


@pytest.mark.parametrize(
    "cron", ["", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "5-1 * * * *", "*/0 * * * *", "x * * * *"]
)
def test_bad_cron(cron: str) -> None:
    with pytest.raises(ValueError, match="cron"):
        check_cron(cron)


def test_the_policy_of_flags_and_of_yaml_are_one_type() -> None:
    made = validate_policy({"policy": "x", "source": {"path": "/x"}, "repository": {"url": "r"}})
    assert made.digest == parse_policy("policy: x\nsource: {path: /x}\nrepository: {url: r}\n").digest


def test_a_source_in_s3() -> None:
    text = "policy: p\nsource: {kind: s3, bucket: lake, prefix: raw/, exclude: ['*.tmp'], exclude_larger_than: 1GiB}\n"
    policy = parse_policy(text + "repository: {url: /backups}\n")
    assert isinstance(policy.source, S3Source)
    assert (policy.source.place, policy.source.origin) == ("s3://lake/raw", "s3://lake/raw")
    assert "What: everything under s3://lake/raw except '*.tmp' and files larger than 1.0 GiB." in policy.explain()
    again = validate_policy(plain(policy))
    assert (again, again.digest) == (policy, policy.digest)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{kind: s3}", "p.yaml:2: 'source.bucket' is missing"),
        ("{kind: s3, bucket: ''}", "p.yaml:2: 'source.bucket' must be text that is not empty, not ''"),
        ("{kind: s3, bucket: b, prefx: x}", "p.yaml:2: unknown key 'source.prefx'; did you mean 'source.prefix'?"),
        ("{kind: s3, bucket: b, exclude_caches: true}", "p.yaml:2: unknown key 'source.exclude_caches'"),
        ("{path: /a, bucket: b}", "p.yaml:2: unknown key 'source.bucket'"),
        (
            "{path: /a, compare: {ctme: true}}",
            "unknown key 'source.compare.ctme'; did you mean 'source.compare.ctime'?",
        ),
        ("{kind: 7}", "p.yaml:2: 'source.kind' must be 'posix' or 's3', not '7'"),
        ("[1]", "p.yaml:2: 'source' must be a mapping"),
        ("/srv/lake", "p.yaml:2: 'source' must be a mapping"),
    ],
)
def test_mistakes_in_a_source(source: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_policy(f"policy: p\nsource: {source}\nrepository: {{url: /backups}}\n", "p.yaml")
    assert message in caught.value.message
