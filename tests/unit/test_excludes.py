"""Patterns, marker files and what they leave out."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from moraine.errors import ConfigError
from moraine.sources.base import ListShard
from moraine.sources.excludes import ExcludeRules
from moraine.sources.posix import PosixSource

CASES = [  # patterns, path (a trailing / marks a directory), excluded
    (["*.pyc"], "a.pyc", True),
    (["*.pyc"], "deep/down/a.pyc", True),
    (["*.pyc"], "a.pyc.txt", False),
    (["*.pyc"], ".pyc", True),
    (["node_modules"], "web/node_modules/", True),
    (["node_modules"], "web/node_modules", True),
    (["node_modules"], "web/node_modules/left/pad", True),
    (["node_modules"], "web/my_node_modules", False),
    (["cache/"], "cache/", True),
    (["cache/"], "cache", False),
    (["cache/"], "x/cache/y", True),
    (["/proc"], "proc/1", True),
    (["/proc"], "usr/proc", False),
    (["/usr/*/doc"], "usr/share/doc/x", True),
    (["/usr/*/doc"], "usr/share/more/doc", False),
    (["/usr/*/doc"], "opt/usr/share/doc", False),
    (["a/b"], "a/b", True),
    (["a/b"], "x/y/a/b/c", True),
    (["a/b"], "xa/b", False),
    (["a/**/z"], "a/z", True),
    (["a/**/z"], "a/b/c/z", True),
    (["a/**/z"], "b/a/b/z", True),
    (["/a/**/z"], "b/a/z", False),
    (["a/**"], "a/", False),
    (["a/**"], "a/b", True),
    (["**/x"], "x", True),
    (["/**/x"], "p/q/x", True),
    (["**"], "anything", True),
    (["a**b"], "a123b", True),
    (["a**b"], "a/b", False),
    (["?"], "é", True),
    (["?"], "ab", False),
    (["caf[éè]"], "café", True),
    (["[a-c]x"], "bx", True),
    (["[!a-c]x"], "bx", False),
    (["[^a-c]x"], "dx", True),
    (["[]]"], "]", True),
    (["[]a-]x"], "-x", True),
    ([r"\*"], "*", True),
    ([r"\*"], "x", False),
    ([r"\!keep"], "!keep", True),
    (["[*]"], "*", True),
    (["a*b*c*d"], "a1b2c3d", True),
    (["a*b*c*d"], "a1c2b3d", False),
    (["*a*a"], "aa", True),
    (["*a*a"], "a", False),
    (["*.log", "!keep.log"], "keep.log", False),
    (["*.log", "!keep.log"], "other.log", True),
    (["!keep.log", "*.log"], "keep.log", True),
    (["*.log", "!keep.log", "keep.*"], "keep.log", True),
    (["logs", "!logs/keep"], "logs/keep", True),  # what is in an excluded directory is not looked at
    (["/logs/*", "!/logs/keep"], "logs/keep", False),
    (["/logs/*", "!/logs/keep"], "logs/other", True),
    (["/d/**", "!/d/k/", "!/d/k/**"], "d/k/x", False),
    (["*", "!*/", "!*.txt"], "a/b/c.txt", False),
    (["*", "!*/", "!*.txt"], "a/b/c.bin", True),
    (["new\nline"], "new\nline", True),
    (["a*b"], "a\nb", True),
    (["a//b/./c"], "a/b/c", True),
    (["x/"], "x", False),
]


@pytest.mark.parametrize(("patterns", "path", "excluded"), CASES)
def test_explain_decides_as_documented(patterns: list[str], path: str, excluded: bool) -> None:
    rules = ExcludeRules.build(patterns)
    found = rules.explain(os.fsencode(path.rstrip("/")), directory=path.endswith("/"))
    assert found.included is not excluded


@pytest.mark.parametrize(("patterns", "path", "excluded"), CASES)
def test_the_walk_decides_as_explain(tmp_path: Path, patterns: list[str], path: str, excluded: bool) -> None:
    entry = tmp_path / path.rstrip("/")
    entry.parent.mkdir(parents=True, exist_ok=True)
    entry.mkdir() if path.endswith("/") else entry.touch()
    listed = _list(PosixSource(tmp_path, ExcludeRules.build(patterns)))
    assert (os.fsencode(path.rstrip("/")) in listed) is not excluded


def test_bytes_that_are_no_utf8_are_one_character_each() -> None:
    assert not ExcludeRules.build(["a?b"]).explain(b"a\xffb").included
    assert ExcludeRules.build(["a?b"]).explain(b"a\xff\xfeb").included


def test_a_file_of_patterns_may_hold_any_bytes(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(b"\xef\xbb\xbf# a comment\r\n\r\n*.tmp  \r\n\\#hash\nlatin-\xe9\ntrailing\\ \n!keep.tmp\n")
    rules = ExcludeRules.build(["*.bak"], files=[path])
    verdicts = {
        b"a.bak": False, b"a.tmp": False, b"#hash": False, b"latin-\xe9": False, b"trailing ": False, b"trailing": True,
        b"keep.tmp": True, b"# a comment": True, b"latin-\xe8": True,
    }  # fmt: skip
    assert {name: rules.explain(name).included for name in verdicts} == verdicts
    assert rules.explain(b"x.tmp").rule == f"*.tmp ({path}:3)"


def test_iexclude_ignores_case_beyond_ascii() -> None:
    rules = ExcludeRules.build(["*.tmp"], iexclude=["thumbs.db", "ÄRGER*"])
    assert not rules.explain(b"x/THUMBS.DB").included
    assert not rules.explain("ärger-1".encode()).included
    assert rules.explain(b"a.TMP").included


def test_explain_names_the_rule_and_the_directory_it_hits() -> None:
    found = ExcludeRules.build(["/home/*/.cache", "*.log", "!keep.log"]).explain(b"home/me/.cache/x/y")
    assert (found.included, found.rule, found.by) == (False, "/home/*/.cache (policy)", "home/me/.cache")
    kept = ExcludeRules.build(["*.log", "!keep.log"]).explain(b"keep.log")
    assert (kept.included, kept.rule, kept.reason) == (True, "!keep.log (policy)", "a pattern takes it back in")


@pytest.mark.parametrize(
    "pattern", ["", "!", "/", "//", ".", "a[b", "[z-a]", "trailing\\", "../x", "a/../b", "[[:alpha:]]", "n\0"]
)
def test_a_bad_pattern_is_a_config_error(pattern: str) -> None:
    with pytest.raises(ConfigError, match="bad exclude pattern") as caught:
        ExcludeRules.build([pattern])
    assert caught.value.hint


def test_bad_marker_size_and_file_are_config_errors(tmp_path: Path) -> None:
    for name in ("", "a/b", "..", ":header"):
        with pytest.raises(ConfigError, match="marker"):
            ExcludeRules.build(if_present=[name])
    with pytest.raises(ConfigError, match="larger_than"):
        ExcludeRules.build(larger_than=-1)
    with pytest.raises(ConfigError, match="cannot read the exclude file"):
        ExcludeRules.build(files=[tmp_path / "missing"])


def test_no_pattern_is_slow() -> None:
    """Stars that could match in very many ways: each must still be decided at once."""
    rules = ExcludeRules.build(["*a*a*a*a*a*a*a*a*b", "**/x/**/x/**/x/y"])
    started = time.perf_counter()
    assert rules.explain(b"a" * 255).included
    assert rules.explain(b"/".join([b"x"] * 150)).included
    assert time.perf_counter() - started < 2


def test_marked_directories_keep_themselves_and_the_marker(tmp_path: Path) -> None:
    for name, header in (("cache", b"Signature: 8a477f597d28d172789f06886806bc55\n"), ("fake", b"Signature: no")):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "CACHEDIR.TAG").write_bytes(header)
        (tmp_path / name / "data").touch()
    (tmp_path / "quiet").mkdir()
    (tmp_path / "quiet" / ".nobackup").touch()
    (tmp_path / "quiet" / "data").touch()
    (tmp_path / "headed").mkdir()
    (tmp_path / "headed" / ".tag").write_bytes(b"not:this")
    (tmp_path / "headed" / "data").touch()
    (tmp_path / "linked").mkdir()
    os.mkfifo(tmp_path / "linked" / "CACHEDIR.TAG")
    source = PosixSource(tmp_path, ExcludeRules.build(caches=True, if_present=[".nobackup", ".tag:yes"]))
    assert _list(source) == {
        b"", b"cache", b"cache/CACHEDIR.TAG", b"fake", b"fake/CACHEDIR.TAG", b"fake/data", b"fake/sub", b"headed",
        b"headed/.tag", b"headed/data", b"linked", b"linked/CACHEDIR.TAG", b"quiet", b"quiet/.nobackup",
    }  # fmt: skip
    (tmp_path / "headed" / ".tag").write_bytes(b"yes!")
    assert b"headed/data" not in _list(source)
    found = source.explain("cache/sub")
    assert (found.included, found.rule, found.by) == (False, "CACHEDIR.TAG", "cache")
    assert source.explain("cache/CACHEDIR.TAG").included


def test_larger_than_leaves_out_regular_files_only(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(101))
    (tmp_path / "fits").write_bytes(bytes(100))
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("x" * 200)
    source = PosixSource(tmp_path, ExcludeRules.build(larger_than=100))
    assert _list(source) == {b"", b"fits", b"directory", b"link"}
    assert source.explain("big").rule == "larger than 100"
    assert source.explain("fits").included


def test_explain_takes_the_file_system_into_account(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").touch()
    (tmp_path / "tmp").touch()  # a file: the pattern means directories
    source = PosixSource(tmp_path, ExcludeRules.build(["tmp/", "*.o"]))
    assert source.explain("tmp").included
    assert source.explain(tmp_path / "sub" / "file").included
    assert source.explain(b"").included
    assert source.explain(".").included
    assert source.explain("sub/missing").reason == "is not there"
    assert source.explain("gone/also").by == "gone"
    assert source.explain("sub/file/below").reason == "is no directory"
    assert source.explain("sub/x.o").rule == "*.o (policy)"
    for path in ("../other", "/etc/hostname"):
        with pytest.raises(ConfigError, match="is not below"):
            source.explain(path)


def test_rules_compare_and_are_frozen() -> None:
    assert ExcludeRules.build(["*.a"]) == ExcludeRules.build(["*.a"])
    assert ExcludeRules.build(["*.a"]) != ExcludeRules.build(["*.b"])
    with pytest.raises(AttributeError):
        ExcludeRules().larger_than = 3  # type: ignore[misc]


def _list(source: PosixSource) -> set[bytes]:
    found = set()
    for batch in source.list(ListShard("all")):
        for row in batch.select(["dir", "name"]).to_pylist():
            found.add(row["dir"] + b"/" + row["name"] if row["dir"] else row["name"])
    return found
