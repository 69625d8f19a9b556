"""The table of docs/CLI.md against what verbs print with --json: neither may have a field that the other lacks."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from command_line import Line, nightly

PAGE = Path(__file__).parents[2] / "docs/CLI.md"
_ELSEWHERE = {"find": "ls", "hold add, hold remove": "snapshots, hold list"}  # rows that refer to another
Shape = dict[str, Any]  # name → shape of what it holds or None; `?` behind a name: not always there


def rows() -> dict[str, str]:
    """The table's verbs and what it says of them."""
    section = PAGE.read_text().partition("\n## JSON\n")[2].partition("\n## ")[0]
    found = re.findall(r"^\| (.+?) \| (.+) \|$", section, re.MULTILINE)
    return {verb.replace("`", ""): text for verb, text in found if verb not in ("verb", "---")}


def shape(text: str) -> Shape:
    """`{a, b?, c: {d}}` as a shape."""
    tokens = iter(re.findall(r"[{}\[\],:]|[\w.?…]+(?: [\w]+)*", text))
    assert next(tokens) == "{"
    return _fields(tokens)


def _fields(tokens: Iterator[str]) -> Shape:
    fields: Shape = {}
    name = ""
    for token in tokens:
        if token == "}":
            return fields
        if token == "{":
            fields[name] = _fields(tokens)
        elif token not in ",:[]" and not (name and fields[name] == "next"):
            name = token
            fields[name] = None
    raise AssertionError("a brace is not closed")


def documented(verb: str) -> Shape:
    """The first shape in a row of the table."""
    found = re.search(r"`[^`]*?(\{.*?\})\]?`", rows()[verb])
    assert found, verb
    return shape(found[1].replace("[names]", "").replace("[lines]", "").replace("[…]", ""))


def check(value: Any, wanted: Shape, where: str) -> None:
    """That a printed object has the documented fields, and no other."""
    if isinstance(value, list):
        assert value, f"{where} is empty: it shows nothing"
        for item in value:
            check(item, wanted, where)
        return
    always = {name for name in wanted if not name.endswith("?")}
    assert always <= value.keys(), f"{where} lacks {sorted(always - value.keys())}"
    known = {name.rstrip("?") for name in wanted} | {"path_b64", "target_b64"}
    assert value.keys() <= known, f"{where} does not tell of {sorted(value.keys() - known)}"
    for name, inner in wanted.items():
        if inner is not None and name.rstrip("?") in value:
            check(value[name.rstrip("?")], inner, f"{where}.{name}")


@pytest.fixture
def printed(line: Line) -> dict[str, Any]:
    """What every verb prints, by its name in the table."""
    policy = str(nightly(line))
    (line.source / "a.txt").write_text("changed")
    (line.source / "new").write_text("new")
    broken = line.folder / "broken.yaml"
    broken.write_text("policy: broken\n")
    second, spare = line.folder / "second", str(line.folder / "spare")
    second.write_text("another")
    found: dict[str, Any] = {"repo probe": line.json("repo", "probe", spare, common=False)}
    found["repo init"] = line.json("repo", "init", spare, "--plain", common=False)
    found["backup"] = line.json("backup", "--policy", policy, "--prove")
    found["drill"] = line.json("drill", policy)
    target = str(line.folder / "out")
    found["restore --dry-run"] = line.json("restore", "latest", "--to", target, "--dry-run", "-v")
    found["restore"] = line.json("restore", "latest", "--to", target)
    found["snapshots, hold list"] = line.json("snapshots")
    found["ls"] = line.json("ls", "-R")
    found["find"] = line.json("find", "*.csv")
    ids = [one["id"] for one in found["snapshots, hold list"]]
    found["diff"] = line.json("diff", *ids)
    found["stats"] = line.json("stats")
    found["sql"] = line.json("sql", "select 1 as one")
    found["key list"] = line.json("key", "list")
    new = str(line.folder / "generated")
    found["key generate"] = [line.json("key", "generate", file, common=False) for file in (new, "-")]
    added = line.json("key", "add", "--new-passphrase-file", str(second))
    found["key add"] = added
    found["key remove"] = line.json("key", "remove", added["added"])
    held = line.json("hold", "add", ids[0])
    found["hold add, hold remove"] = [held, line.json("hold", "remove", ids[0])]
    found["sweep"] = line.json("sweep", "--dry-run")
    found["mirror"] = line.json("mirror", str(line.source), str(line.folder / "standby"), common=False)
    promising = line.folder / "promising.yaml"
    promising.write_text(Path(policy).read_text() + "objectives: {rpo: 1s, rto: 1h}\n")
    time.sleep(1)  # the objective is missed only then
    found["status"] = line.json("status", str(promising))
    found["coverage"] = line.json("coverage", policy, "--from", str(date.today() - timedelta(3)))
    found["policy validate"] = line.json("policy", "validate", policy, str(broken), code=10, common=False)
    found["policy explain"] = line.json("policy", "explain", policy, common=False)
    found["policy explain-path"] = line.json("policy", "explain-path", policy, "a.txt", common=False)
    found["forget by rules, retain"] = line.json("forget", "--policy", "docs", "--keep-last", "1", "--dry-run")
    found["forget by name"] = line.json("forget", ids[0])
    line("ls", "nothing-like-it", "--json", code=43)
    found["any error"] = json.loads(line.err)
    for pack in line.repo.glob("packs/*/*"):
        pack.unlink()
    found["check"] = line.json("check", code=50)
    return found


def test_every_verb_prints_what_the_page_says(printed: dict[str, Any]) -> None:
    assert printed.keys() == rows().keys()
    wrong = []
    for verb, value in printed.items():
        if verb == "sql":  # its fields are the query's
            assert value == [{"one": 1}]
            continue
        wanted = documented(_ELSEWHERE.get(verb, verb)) | ({"snapshots": None} if verb == "find" else {})
        try:
            check(value, wanted, verb)
        except AssertionError as error:
            wrong.append(str(error).partition("\n")[0])
    assert wrong == []
    for one in printed["diff"]:
        for side in filter(None, (one["old"], one["new"])):
            check(side, documented("ls"), "diff")


def test_the_parser_reads_shapes() -> None:
    assert shape("{a, b?, c: {d, e}, f: [{g}], h}") == {
        "a": None, "b?": None, "c": {"d": None, "e": None}, "f": {"g": None}, "h": None,
    }  # fmt: skip
    with pytest.raises(AssertionError, match="does not tell of"):
        check({"a": 1, "z": 2}, {"a": None}, "it")
    with pytest.raises(AssertionError, match="lacks"):
        check([{}], {"a": None}, "it")
