"""What the command line is made of: progress, tables, marks of processes, the page of errors."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from command_line import ROOT, Line, nightly
from moraine.cli.backup import policy_name
from moraine.cli.errors_page import error_classes, errors_page
from moraine.cli.holder import is_alive, this_process
from moraine.cli.main import main
from moraine.cli.parser import VERBS
from moraine.cli.progress import Bar, Lines
from moraine.cli.text import show_mode, table, width
from moraine.engine.coverage import State
from moraine.report.files_table import FILES, SNAPSHOTS


def test_holders() -> None:
    holder = this_process()
    assert holder.alive(holder.mark)
    assert not is_alive(holder.mark.replace(f"{os.getpid()}-", f"{os.getpid()}-1"))
    assert not is_alive("nonsense")
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    assert not is_alive(f"{child.pid}-0-0")


# words


class Terminal:
    encoding = "utf-8"

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None: ...


class Ticks:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, ticks = Terminal(), Ticks()
    monkeypatch.setenv("COLUMNS", "120")
    bar = Bar(terminal, ticks)  # type: ignore[arg-type]
    bar.start("copy", 10, 100 << 20)
    ticks.now += 2
    bar.advance(5, 50 << 20)
    shown = terminal.text.split("\x1b[K")[-1]
    assert shown == (
        "copy     ━━━━━━━━━━━━────────────   50%  5 of 10 files, 50.0 MiB of 100 MiB  25.0 MiB/s  ETA 0:00:02"
    )
    bar.finish("copy")
    assert terminal.text.endswith("\r\x1b[K")


def test_progress_lines_come_now_and_then() -> None:
    terminal, ticks = Terminal(), Ticks()
    lines = Lines(terminal, ticks)  # type: ignore[arg-type]
    lines.start("list")
    for _ in range(100):
        ticks.now += 0.2
        lines.advance(10)
    lines.finish("list")
    lines_shown = terminal.text.splitlines()
    assert lines_shown[0] == "list: 250 files, 50 files/s"
    assert lines_shown[-1] == "list: done, 1,000 files in 0:00:20"
    assert 4 <= len(lines_shown) <= 5


def test_quick_phases_say_nothing() -> None:
    terminal = Terminal()
    lines = Lines(terminal, Ticks())  # type: ignore[arg-type]
    lines.start("list")
    lines.advance(1)
    lines.finish("list")
    assert terminal.text == ""


def test_tables_are_aligned() -> None:
    assert list(table(("a", "n"), [["x", "1"], ["日本", "200"]], right=("n",))) == [
        "a       n",
        "x       1",
        "日本  200",
    ]
    assert width("e\u0301") == 1


def test_modes() -> None:
    assert show_mode("directory", 0o1777) == "drwxrwxrwt"
    assert show_mode("file", 0o4755) == "-rwsr-xr-x"
    assert show_mode("file", 0o2644) == "-rw-r-Sr--"


def test_policy_names() -> None:
    assert [policy_name(path) for path in ("/srv/my docs", "/", "/x/.hidden", "/ü")] == [
        "my-docs",
        "root",
        "hidden",
        "root",
    ]


def test_the_page_of_errors_is_current() -> None:
    assert (ROOT / "docs" / "ERRORS.md").read_text() == errors_page(), (
        "python -m moraine.cli.errors_page > docs/ERRORS.md"
    )


def test_codes_are_unique_and_exit_codes_of_their_family() -> None:
    kinds = list(error_classes())
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert all(10 <= kind.exit_code < 128 or kind.exit_code == 130 for kind in kinds)


def test_every_verb_has_help(capfd: pytest.CaptureFixture[str]) -> None:
    for verb in VERBS:
        assert main([verb, "--help"]) == 0
        assert "--passphrase-file" in capfd.readouterr().out


def test_the_page_of_the_command_line_names_what_there_is() -> None:
    page = (ROOT / "docs" / "CLI.md").read_text()
    assert [verb for verb in VERBS if f"`{verb}" not in page] == []
    words = set(re.findall(r"\w+", page))
    assert set(FILES.names) <= words
    assert set(SNAPSHOTS.names) <= words


def test_documented_json_is_what_is_printed(line: Line) -> None:
    page = (ROOT / "docs" / "CLI.md").read_text()
    rows = dict(re.findall(r"^\| (`[^|]*) \| ([^|]*) \|$", page.partition("## JSON")[2], re.MULTILINE))
    line("hold", "add", "latest")
    coverage = line.json("coverage", str(nightly(line)), "--from", "2026-11-01")
    printed = {
        "`snapshots`, `hold list`": line.json("snapshots")[0],
        "`stats`": line.json("stats"),
        "`check`": line.json("check"),
        "`key list`": line.json("key", "list")[0],
        "`restore --dry-run`": line.json("restore", "latest", "--to", str(line.folder / "out"), "-n"),
        "`restore`": line.json("restore", "latest", "--to", str(line.folder / "out")),
        "`backup`": line.json("backup", str(line.source)),
        "`ls`": line.json("ls")[0],
        "`coverage`": coverage,
        "`forget` by rules, `retain`": line.json("forget", "--policy", "docs", "--keep-last", "1", "-n"),
    }
    for verb, content in printed.items():
        documented = set(re.findall(r"\w+", rows[verb]))
        assert set(content) <= documented, verb
    assert {*coverage["windows"][0], *coverage["totals"]} <= set(re.findall(r"\w+", rows["`coverage`"]))
    assert [state for state in State if f"| `{state}` |" not in page] == []
