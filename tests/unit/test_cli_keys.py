"""`moraine key generate`, and generated keys wherever a passphrase file is named."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from command_line import Line
from moraine.cli.context import Context
from moraine.repository.key_slots import read_generated_key
from moraine.steps import private_file
from moraine.steps.private_file import create_private
from moraine.workflows.airflow_home import write_private


@pytest.fixture
def keyed(bare: Line) -> Line:
    """The command line with a repository and one snapshot, opened by a generated key."""
    bare.secret = bare.folder / "key"
    bare("key", "generate", str(bare.secret), common=False)
    bare("repo", "init")
    bare("backup", str(bare.source))
    return bare


def test_a_generated_key_is_a_file_of_its_owner_alone(bare: Line) -> None:
    file = bare.folder / "key"
    before = os.umask(0)
    try:
        said = bare("key", "generate", str(file), common=False)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text = file.read_text()
    assert read_generated_key(text.encode()) and text.count("\n") == 1
    assert str(file) in said and "keep a copy" in said and text.strip() not in said
    assert bare("key", "generate", str(bare.folder / "quiet"), "--quiet", common=False) == ""


def test_what_is_there_is_not_overwritten(bare: Line) -> None:
    there, dangling = bare.folder / "there", bare.folder / "dangling"
    there.write_text("precious")
    dangling.symlink_to(bare.folder / "nothing")
    for file in (there, dangling, bare.folder):
        bare("key", "generate", str(file), common=False, code=10)
        assert f"{file} is there already" in bare.err and bare.err.count("\n") == 1
    assert there.read_text() == "precious" and not (bare.folder / "nothing").exists()
    bare("key", "generate", str(bare.folder / "no" / "where"), common=False, code=10)
    assert "cannot write the key file" in bare.err


def test_a_key_can_be_printed_and_needs_no_repository(bare: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MORAINE_REPOSITORY", "/nowhere")
    monkeypatch.setenv("MORAINE_PASSPHRASE_FILE", "/nowhere")
    monkeypatch.setattr(Context, "entropy", lambda self, count: bytes(range(count)))
    text = bare("key", "generate", "-", "--quiet", common=False)
    assert text == "moraine-key-1-000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f-" + text[-9:]
    assert bare.json("key", "generate", "-", common=False) == {"generated": "-", "key": text.strip()}
    assert bare.json("key", "generate", str(bare.folder / "k"), common=False) == {"generated": str(bare.folder / "k")}
    assert (bare.folder / "k").read_text() == text


def test_a_repository_lives_on_a_generated_key(keyed: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [slot["kind"] for slot in keyed.json("key", "list")] == ["key"]
    assert " key " in keyed("key", "list")
    keyed("restore", "latest", "--to", str(keyed.folder / "out"))
    assert (keyed.folder / "out/a.txt").read_text() == "hello"
    flags = ["--repo", str(keyed.repo)]
    monkeypatch.setenv("MORAINE_PASSPHRASE_FILE", str(keyed.secret))
    assert "docs" in keyed("snapshots", *flags, common=False)
    keyed.secret.write_text(f"\r\n {keyed.secret.read_text().upper()} \n")
    assert "docs" in keyed("snapshots")


def test_a_generated_key_can_be_typed(keyed: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = iter([keyed.secret.read_text().strip()] * 2 + ["a phrase"] * 2)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(typed))
    flags = ["--repo", str(keyed.repo)]
    assert "docs" in keyed("snapshots", *flags, common=False)
    keyed("key", "add", "--label", "typed", *flags, common=False)
    assert [slot["kind"] for slot in keyed.json("key", "list")] == ["key", "passphrase"]


def test_a_policy_and_its_drill_name_a_key_file(keyed: Line) -> None:
    keyed("key", "generate", str(keyed.folder / "drill"), common=False)
    keyed("key", "add", "--new-passphrase-file", str(keyed.folder / "drill"), "--label", "drill")
    keyed("key", "remove", "first")
    policy = keyed.folder / "docs.yaml"
    policy.write_text(
        f"policy: docs\nsource: {{path: {keyed.source}}}\n"
        f"repository: {{url: {keyed.repo}, passphrase_file: {keyed.secret}}}\n"
        f"drill: {{credentials: {{passphrase_file: {keyed.folder / 'drill'}}}}}\n"
    )
    keyed("backup", "--policy", str(policy), common=False, code=42)  # the slot of its key was removed
    keyed("drill", str(policy), common=False)


def test_the_inventories_of_a_mirror_are_sealed_by_a_key(keyed: Line) -> None:
    to = keyed.folder / "standby"
    flags = ["--passphrase-file", str(keyed.secret)]
    keyed("mirror", str(keyed.source), str(to), *flags, common=False)
    assert "docs" in keyed("snapshots", "--repo", str(to), *flags, common=False)
    assert '"kind":"key"' in next((to / ".moraine/keys").iterdir()).read_text()


def test_a_key_with_a_typing_error_is_told_before_anything_is_made(bare: Line) -> None:
    text = bare("key", "generate", "-", common=False).strip()
    for wrong, said in ((text[:-1], "not a whole one"), (swapped(text), "checksum")):
        bare.secret.write_text(wrong)
        bare("repo", "init", code=10)
        assert said in bare.err and text[20:40] not in bare.err
        assert not (bare.repo / "moraine.json").exists()


def swapped(text: str) -> str:
    """With two different neighbours exchanged, as people type."""
    place = next(i for i in range(20, 60) if text[i] != text[i + 1])
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]


def test_the_wrong_kind_is_told(line: Line) -> None:
    phrase, line.secret = line.secret, line.folder / "key"
    line("key", "generate", str(line.secret), common=False)
    line("snapshots", code=42)
    assert "no slot for a generated key, only for passphrases" in line.err
    key, line.secret = line.secret, phrase
    line("key", "add", "--new-passphrase-file", str(key), "--label", "machine")
    line("key", "remove", "first")
    line("snapshots", code=42)
    assert "no slot for a passphrase, only for generated keys" in line.err


# private files


def test_a_private_file_that_cannot_be_written_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        create_private(tmp_path / "key", "secret")
    assert list(tmp_path.iterdir()) == []


def test_a_private_file_in_a_directory_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(directory: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(private_file, "sync_directory", refused)
    create_private(tmp_path / "key", "secret")
    assert (tmp_path / "key").read_text() == "secret"


def test_a_private_file_is_replaced_at_once(tmp_path: Path) -> None:
    stray = tmp_path / f"file.{os.getpid()}"
    stray.write_text("of a dead process")
    stray.chmod(0o666)
    for text in ("one", "two"):
        write_private(tmp_path / "file", text)
        assert (tmp_path / "file").read_text() == text
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
