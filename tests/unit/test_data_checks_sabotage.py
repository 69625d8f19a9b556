"""Restored files that were damaged, one way at a time: each is found, and told by name, expected and found."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from data_lake import Lake, damage, failed, flip, judge


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake after its first night; nobody changes it."""
    made = Lake(tmp_path_factory.mktemp("lake"))
    made.back_up()
    return made


@pytest.fixture(scope="module")
def sound(lake: Lake) -> Path:
    return lake.restore()


@pytest.fixture
def restored(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "tree", symlinks=True))


PART = "orders/day=2026-11-02/part-0.parquet"
SABOTAGE: list[tuple[str, str, Callable[[Path], None], str, str]] = [
    ("missing file", "all files", lambda r: (r / PART).unlink(), "no file is missing", f"{PART}: expected "),
    (
        "extra file",
        "all files",
        lambda r: (r / "new").write_text("x"),
        "no file is there that",
        "new: expected nothing, found 1 bytes",
    ),
    (
        "flipped byte",
        "all files",
        damage("readme", flip(3)),
        "every file has its content",
        "readme: found other content",
    ),
    (
        "short file",
        "all files",
        damage("readme", lambda d: d[:9]),
        "every file has its size",
        "readme: expected 31 bytes, found 9",
    ),
    (
        "cut parquet",
        "parquet",
        damage(PART, lambda d: d[:-9]),
        "the footer of every file opens",
        f"{PART}: it is cut off",
    ),
    (
        "cut orc",
        "orc",
        damage("orc/a.orc", lambda d: d[:-9]),
        "the footer of every file opens",
        "orc/a.orc: its footer",
    ),
    (
        "ragged csv",
        "csv",
        damage("csv/1.csv", lambda d: d + b"1;2\n"),
        "no row is ragged",
        "csv/1.csv: 1 of 201 rows are bad: row 202 has 2 columns, expected 3",
    ),
    (
        "latin-1 csv",
        "csv",
        damage("csv/1.csv", lambda d: d + "7;Ü;8\n".encode("latin-1")),
        "no row is ragged",
        "csv/1.csv: 1 of 201 rows are bad: row 202 is no UTF-8",
    ),
    (
        "utf-16 csv",
        "csv",
        damage("csv/1.csv", lambda d: d.decode().encode("utf-16")),
        "every file is CSV",
        "csv/1.csv: it is UTF-16, expected UTF-8",
    ),
    (
        "json line",
        "jsonl",
        damage("events/a.jsonl", lambda d: d + b'{"n": 1\n'),
        "every line is JSON",
        "events/a.jsonl: 1 of 301 rows are bad: line 301 is no JSON",
    ),
    (
        "sqlite page",
        "sqlite",
        damage("catalog.sqlite", lambda d: d[:8192] + b"\xa5" * 4096 + d[12288:]),
        "every database opens",
        "catalog.sqlite: integrity_check, expected ok, found: ",
    ),
    (
        "sqlite header",
        "sqlite",
        damage("catalog.sqlite", lambda d: b"x" * 100 + d[100:]),
        "every database opens",
        "catalog.sqlite: it is no SQLite database",
    ),
    (
        "cut sqlite",
        "sqlite",
        damage("catalog.sqlite", lambda d: d[: len(d) // 2]),
        "every database opens",
        "catalog.sqlite: ",
    ),
    (
        "cut zip",
        "container",
        damage("packed/a.zip", lambda d: d[:-30]),
        "every container lists",
        "packed/a.zip: it does not list",
    ),
    ("zip member", "container", damage("packed/a.zip", flip(40)), "every container lists", "packed/a.zip: "),
    ("cut tar", "container", damage("packed/b.tar", lambda d: d[:3000]), "every container lists", "packed/b.tar: it "),
    (
        "tar cut between members",
        "container",
        damage("packed/b.tar", lambda d: d[:5120]),
        "every container lists",
        "packed/b.tar: it is cut off",
    ),
    (
        "cut tar.gz",
        "container",
        damage("packed/c.tar.gz", lambda d: d[:-5]),
        "every container lists",
        "packed/c.tar.gz: it does",
    ),
    (
        "cut gz",
        "container",
        damage("packed/log.gz", lambda d: d[:-5]),
        "every container lists",
        "packed/log.gz: it does not list",
    ),
    ("cut png", "image", damage("images/b.PNG", lambda d: d[:-20]), "every image is whole", "images/b.PNG: "),
    (
        "png pixel",
        "image",
        damage("images/b.PNG", flip(60)),
        "every image is whole",
        "images/b.PNG: chunk IDAT at byte 33",
    ),
    (
        "cut jpeg",
        "image",
        damage("images/c.jpg", lambda d: d[:-2]),
        "every image is whole",
        "images/c.jpg: it is cut off",
    ),
    (
        "cut gif",
        "image",
        damage("images/d.gif", lambda d: d[:-4]),
        "every image is whole",
        "images/d.gif: it is cut off after",
    ),
    (
        "no image",
        "image",
        damage("images/d.gif", lambda d: b"text"),
        "every image is whole",
        "images/d.gif: its first bytes",
    ),
]


@pytest.mark.parametrize(
    ("name", "sabotage", "check", "detail"), [c[1:] for c in SABOTAGE], ids=[c[0] for c in SABOTAGE]
)
def test_sabotage_is_found_and_named(
    lake: Lake, restored: Path, tmp_path: Path, name: str, sabotage: Callable[[Path], None], check: str, detail: str
) -> None:
    sabotage(restored)
    bad = {found.name: found for found in failed(judge(lake, restored, name, tmp_path))}
    found = next((one for text, one in bad.items() if text.startswith(check)), None)
    assert found, list(bad)
    assert found.detail.startswith(detail), found.detail
