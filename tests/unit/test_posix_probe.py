"""What the probe says of a source before anything is written."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from moraine.errors import SourceDenied, SourceError, SourceMissing, SourceUnmounted
from moraine.sources.posix import PosixSource
from unprivileged import as_nobody, open_directory


def test_probe_tells_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("missing", "dangling", "file/below"):
        with pytest.raises(SourceMissing) as missing:
            PosixSource(tmp_path / name).probe()
        assert missing.value.hint
    with pytest.raises(SourceError, match="is no directory"):
        PosixSource(tmp_path / "file").probe()
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceUnmounted, match="it is an empty directory"):
        PosixSource(tmp_path / "empty", must_be_mount=True).probe()


def test_probe_of_what_may_not_be_listed() -> None:
    with open_directory() as root:
        (root / "closed").mkdir()
        (root / "closed").chmod(0)

        def check() -> None:
            with pytest.raises(SourceDenied):
                PosixSource(root / "closed").probe()

        as_nobody(root, check)


def test_probe_reports_facts(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    facts = PosixSource(tmp_path / "link").probe()
    assert facts.device == tmp_path.stat().st_dev
    assert (facts.root, facts.history, facts.notes) == (str(tmp_path / "link"), None, ())
    assert os.path.ismount(facts.info["mounted_at"])
    (tmp_path / "empty").mkdir()
    assert "is empty" in PosixSource(tmp_path / "empty").probe().notes[0]
    assert PosixSource("/proc", must_be_mount=True).probe().info["file_system"] == "proc"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
def test_a_bind_mount_of_the_same_file_system_is_a_mount(tmp_path: Path) -> None:
    point = tmp_path / "a \\point"
    point.mkdir()
    if subprocess.run(["mount", "--bind", tmp_path, point], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        assert PosixSource(point, must_be_mount=True).probe().info["mounted_at"] == str(point)
    finally:
        subprocess.run(["umount", point], check=True)
