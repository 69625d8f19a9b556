"""`moraine mirror`, and the other verbs on a mirror."""

from __future__ import annotations

from pathlib import Path

import pytest

from command_line import Line


@pytest.fixture
def line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Line:
    return Line(tmp_path, capfd)


def test_a_mirror_by_hand(line: Line, tmp_path: Path) -> None:
    to = tmp_path / "mirror"
    first = line.json("mirror", str(line.source), str(to), common=False)
    assert (first["committed"]["files"], first["exit_code"]) == (2, 0)
    assert (to / "deep/b.csv").read_text() == (line.source / "deep/b.csv").read_text()
    (to / "a.txt").write_text("theirs")
    found = line.json("check", "--repo", str(to), code=50, common=False)
    assert [problem["code"] for problem in found["problems"]] == ["mirror-changed"]
    assert "a.txt (changed)" in line("check", "--repo", str(to), code=50, common=False)
    line("mirror", str(line.source), str(to), common=False)
    assert "a.txt (changed)" in line.err
    assert line("check", "--repo", str(to), "--read-data", common=False).startswith("all is well")
    out = line("restore", "latest", "--repo", str(to), "--to", str(tmp_path / "out"), "--verify", common=False)
    assert "2 files" in out
    assert (tmp_path / "out/a.txt").read_text() == "hello"
    assert "a.txt" in line("ls", "latest", "--repo", str(to), common=False)


def test_a_policy_file_and_its_mistakes(line: Line, tmp_path: Path) -> None:
    policy = tmp_path / "m.yaml"
    policy.write_text(f"policy: m\nsource: {{path: {line.source}}}\ndestination: {{url: {tmp_path / 'm'}}}\n")
    line("mirror", "--policy", str(policy), code=10, common=False)
    assert "make the directory" in line.err
    (tmp_path / "m").mkdir()
    line("mirror", "--policy", str(policy), common=False)
    line("backup", "--policy", str(policy), code=10, common=False)
    assert "moraine mirror --policy" in line.err
    line("mirror", str(line.source), code=10, common=False)
    line("mirror", str(line.source), str(line.source / "deep"), code=10, common=False)
    assert "one in the other" in line.err


def test_sealed_inventories(line: Line, tmp_path: Path) -> None:
    flags = ["--passphrase-file", str(line.secret)]
    to = tmp_path / "mirror"
    line("mirror", str(line.source), str(to), *flags, common=False)
    line("mirror", str(line.source), str(to), code=10, common=False)
    assert not any(b"b.csv" in path.read_bytes() for path in (to / ".moraine").rglob("*") if path.is_file())
    line("restore", "latest", "--repo", str(to), "--to", str(tmp_path / "out"), *flags, common=False)
    assert (tmp_path / "out/a.txt").read_text() == "hello"
