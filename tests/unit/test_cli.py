"""The command line on the ways people go: back up, look, restore, keep, forget."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from command_line import ROOT, Line, spawn


def test_from_nothing_to_a_restored_tree(bare: Line) -> None:
    assert "encrypted" in bare("repo", "init")
    assert "of docs" in bare("backup", str(bare.source))
    bare("restore", "latest", "--to", str(bare.folder / "out"))
    assert (bare.folder / "out" / "deep" / "b.csv").read_text() == "1,2\n" * 100
    assert sorted(os.listdir(bare.folder / "out")) == ["a.txt", "deep"]


def test_snapshots_in_json(line: Line) -> None:
    line("backup", str(line.source))
    rows = line.json("snapshots")
    assert [row["policy"] for row in rows] == ["docs", "docs"]
    first = rows[0]
    assert {"id", "policy", "window", "captured_at", "files", "bytes", "added"} <= set(first)
    assert (first["files"], first["bytes"], first["added"]) == (2, 405, 405)
    assert set(first["window"]) == {"start", "end"}
    assert rows[1]["added"] == 0
    assert [row["id"] for row in line.json("snapshots", "--last", "1")] == [rows[1]["id"]]
    assert line.json("snapshots", "--policy", "other") == []


def test_flags_stand_before_or_after_the_verb(line: Line) -> None:
    flags = ["--repo", str(line.repo), "--passphrase-file", str(line.secret), "--json"]
    assert json.loads(line(*flags, "snapshots", common=False)) == json.loads(line("snapshots", *flags, common=False))
    assert json.loads(line(*flags, "key", "list", common=False)) == json.loads(
        line("key", "list", *flags, common=False)
    )


def test_the_environment_names_repository_and_passphrase(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MORAINE_REPOSITORY", f"file://{line.repo}")
    monkeypatch.setenv("MORAINE_PASSPHRASE_FILE", str(line.secret))
    assert "docs" in line("snapshots", common=False)


def test_backup_in_json(line: Line) -> None:
    (line.source / "new").write_text("new")
    found = line.json("backup", str(line.source), "--name", "other")
    assert (found["policy"], found["files"], found["exit_code"]) == ("other", 3, 0)
    assert found["snapshot"] in {row["id"] for row in line.json("snapshots")}


def test_backup_of_a_policy_file(bare: Line) -> None:
    file = bare.folder / "p.yaml"
    file.write_text(
        "policy: lake\nsource: {path: docs, exclude: ['*.csv']}\nrepository: {url: repo, passphrase_file: pass}\n"
    )
    bare("repo", "init")
    bare("backup", "--policy", str(file), common=False)
    assert "deep/b.csv" not in bare("ls")
    assert line_of(bare("snapshots"), "lake")


def line_of(text: str, word: str) -> list[str]:
    return [line for line in text.splitlines() if word in line]


def test_excludes_as_flags(bare: Line) -> None:
    bare("repo", "init")
    (bare.source / "CACHE.TMP").write_text("x")
    (bare.source / "big").write_bytes(b"x" * 2000)
    flags = ["--exclude", "*.csv", "--iexclude", "*.tmp", "--exclude-larger-than", "1kB"]
    bare("backup", str(bare.source), *flags)
    assert bare("ls").split() == ["a.txt", "deep/"]


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root reads everything")
def test_unreadable_files_are_exit_code_3(bare: Line) -> None:
    bare("repo", "init")
    (bare.source / "a.txt").chmod(0)
    mortal = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    words = [*mortal, sys.executable, "-m", "moraine", "backup", str(bare.source)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "include"), **bare.environ}
    found = subprocess.run(words, env=environ, capture_output=True, text=True, check=False)
    assert found.returncode == 3
    assert "1 entry could not be read" in found.stdout
    assert bare.json("snapshots")[0]["unreadable"] == 1
    bare("restore", "latest", "--to", str(bare.folder / "out"), code=3)
    assert "a.txt: could not be read when the snapshot was taken" in bare.err


def test_backup_can_prove(bare: Line) -> None:
    bare("repo", "init")
    bare("backup", str(bare.source), "--prove")
    assert bare.json("snapshots")[0]["proven"]


# looking


def test_ls(line: Line) -> None:
    assert line("ls").splitlines() == ["a.txt", "deep/", "deep/b.csv"]
    assert line("ls", "latest", "/deep/").splitlines() == ["deep/b.csv"]
    assert line("ls", "latest", "/").splitlines() == ["a.txt", "deep/"]
    assert line("ls", "latest", "/", "-R").splitlines() == ["a.txt", "deep/", "deep/b.csv"]
    assert re.match(r"-rw-r--r--  \S+ +5 B  20\S+ \S+  a\.txt", line("ls", "-l").splitlines()[0])
    assert [entry["path"] for entry in line.json("ls")] == ["a.txt", "deep", "deep/b.csv"]
    line("ls", "latest", "nope", code=10)


def test_names_cannot_reach_the_terminal(line: Line) -> None:
    evil = os.fsdecode(b"evil\x1b[2J\xff\n")
    (line.source / evil).write_text("x")
    os.symlink(evil, line.source / "link")
    line("backup", str(line.source))
    for words in (["ls"], ["ls", "-l"], ["find", "evil*"], ["diff", line.json("snapshots")[0]["id"], "latest"]):
        assert "evil\\x1b[2J\\xff\\n" in line(*words)
        assert "\x1b" not in line(*words)
    assert "\x1b" not in line("sql", "select path, target, path_bytes from files")
    assert "\x1b" not in line("restore", "latest", "--to", str(line.folder / "out"), "--dry-run")


def test_exact_names(line: Line) -> None:
    name = b"odd\xff\n"
    (line.source / os.fsdecode(name)).write_text("x")
    line("backup", str(line.source))
    out, _ = spawn("ls", "-0", environ=line.environ, text=False).communicate()
    assert name in out.split(b"\0")


def test_find_diff_and_stats(line: Line) -> None:
    (line.source / "a.txt").write_text("hello, world")
    (line.source / "more.csv").write_text("3")
    line("backup", str(line.source))
    assert len(line.json("find", "a.txt")) == 2
    assert "2 versions in 2 snapshots" in line("find", "*.csv")
    assert "nothing found" in line("find", "*.pdf")
    first, second = (row["id"] for row in line.json("snapshots"))
    text = line("diff", first, second)
    assert "M       +7 B  a.txt" in text
    assert "+       +1 B  more.csv" in text
    assert "2 differences" in text or "3 differences" in text  # the directory's own time changes with it
    assert line("diff", second, second) == "no differences\n"
    assert line.json("stats")["snapshots"] == 2
    assert "deduplication" in line("stats")


def test_sql(line: Line) -> None:
    sql = "select policy, count(*) as files, sum(size) as bytes from files where kind = 'file' group by 1"
    assert line("sql", sql).splitlines() == ["policy  files  bytes", "docs        2    405", "", "1 row"]
    assert line.json("sql", sql) == [{"policy": "docs", "files": 2, "bytes": 405}]
    assert line("sql", sql, "--csv").splitlines() == ["policy,files,bytes", "docs,2,405"]
    assert line.json("sql", "select path from files where size < 0") == []
    line("sql", "selec", code=10)
    assert line.err.startswith("config: the query failed")


# restore


def test_restore_a_part(line: Line) -> None:
    for glob, expected in (("*.csv", ["deep/b.csv"]), ("deep", ["deep/b.csv"]), ("a.txt", ["a.txt"])):
        out = line.folder / f"out-{expected[0][0]}-{len(glob)}"
        line("restore", "latest", "--to", str(out), "--path", glob)
        assert sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()) == expected
    line("restore", "latest", "--to", str(line.folder / "x"), "--path", "nope", code=60)


def test_dry_run_and_delete(line: Line) -> None:
    out = line.folder / "out"
    text = line("restore", "latest", "--to", str(out), "--dry-run")
    assert "create     deep/b.csv" in text
    assert not out.exists()
    line("restore", "latest", "--to", str(out))
    (out / "extra").write_text("x")
    assert "delete     extra" in line("restore", "latest", "--to", str(out), "--delete", "-n")
    assert (out / "extra").exists()
    assert line.json("restore", "latest", "--to", str(out), "--delete")["deleted"] == 1
    assert not (out / "extra").exists()


def test_check(line: Line) -> None:
    assert line("check").startswith("all is well: 1 snapshot, 4 manifest rows, 1 pack with ")
    assert line.json("check", "--read-data=50%")["read_data"] == 0.5
    assert "1 of them read (100% asked for), 2 chunks hashed" in line("check", "--read-data")
    pack = next(path for path in (line.repo / "packs").rglob("*") if path.is_file())
    content = bytearray(pack.read_bytes())
    content[150] ^= 1
    pack.write_bytes(content)
    text = line("check", "--read-data", code=50)
    assert "costs 1 snapshot" in text
    assert "2 files lost: a.txt, deep/b.csv" in text
    assert not line.json("check", "--read-data", code=50)["ok"]
    line("restore", "latest", "--to", str(line.folder / "out"), code=50)
    assert "a.txt" in line.err


# keys, holds, retention


def test_keys(line: Line) -> None:
    new = line.folder / "new"
    new.write_text("another")
    line("key", "add", "--new-passphrase-file", str(new), "--label", "laptop")
    assert [slot["label"] for slot in line.json("key", "list")] == ["first", "laptop"]
    line("key", "remove", "first")
    line("snapshots", code=42)
    line.secret = new
    line("snapshots")
    line("key", "remove", "laptop", code=10)
    assert "last key slot" in line.err


def test_holds(line: Line) -> None:
    line("backup", str(line.source))
    old = line.json("snapshots")[0]["id"]
    line("hold", "add", old[-8:], "--reason", "audit")
    assert [row["held"] for row in line.json("hold", "list")] == ["audit"]
    line("forget", old, code=40)
    assert "on hold: audit" in line.err
    line("hold", "remove", old)
    line("forget", old)
    assert len(line.json("snapshots")) == 1


def test_forget_by_rules(line: Line) -> None:
    for _ in range(3):
        line("backup", str(line.source))
    plan = line.json("forget", "--policy", "docs", "--keep-last", "2", "--dry-run")
    assert (len(plan["kept"]), len(plan["forgotten"]), plan["dry_run"]) == (2, 2, True)
    assert len(line.json("snapshots")) == 4
    assert "last 2 of 2" in line("forget", "--policy", "docs", "--keep-last", "2")
    assert len(line.json("snapshots")) == 2
    for words in (
        ["--policy", "docs"],
        ["--policy", "nope", "--keep-last", "1"],
        ["latest"],
        [],
        ["x", "--keep-last", "1"],
    ):
        line("forget", *words, code=10)


def test_retain_by_policy_file(line: Line) -> None:
    line("backup", str(line.source))
    file = line.folder / "p.yaml"
    file.write_text("policy: docs\nsource: {path: docs}\nrepository: {url: repo}\nkeep: {last: 1}\n")
    assert "1 would be forgotten (dry run)" in line("retain", "--policy", str(file), "--dry-run")
    line("retain", "--policy", str(file))
    assert len(line.json("snapshots")) == 1


# policies


def test_policy_verbs(bare: Line) -> None:
    good, bad = bare.folder / "good.yaml", bare.folder / "bad.yaml"
    good.write_text("policy: lake\nsource: {path: docs, exclude: ['*.csv']}\nrepository: {url: repo}\n")
    bad.write_text("policy: lake\nsource: {pth: docs}\nrepository: {url: repo}\n")
    assert bare("policy", "validate", str(good), common=False) == "lake: valid\n"
    text = bare("policy", "validate", str(good), str(bad), common=False, code=10)
    assert f"{bad}:2: unknown key 'source.pth'; did you mean 'source.path'?" in text
    assert json.loads(bare("policy", "validate", str(bare.folder), "--json", common=False, code=10))["valid"] == [
        "lake"
    ]
    assert "What: everything under" in bare("policy", "explain", str(good), common=False)
    lines = bare("policy", "explain-path", str(good), "a.txt", "deep/b.csv", common=False).splitlines()
    assert lines[0].startswith("in   a.txt")
    assert lines[1].startswith("out  deep/b.csv")
    assert "*.csv" in lines[1]
    assert json.loads(bare("policy", "schema", common=False))["title"] == "Moraine policy"
