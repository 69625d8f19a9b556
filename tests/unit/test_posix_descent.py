"""Moving between directories by descriptors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from moraine.sources import descent as descent_module
from moraine.sources.descent import TO_LIST, Descent


def test_a_descent_goes_anywhere_and_recovers(tmp_path: Path) -> None:
    for made in ("a/b/c", "a/x", "k"):
        (tmp_path / made).mkdir(parents=True)
    (tmp_path / "link").symlink_to("a")
    descent = Descent(os.fsencode(tmp_path), TO_LIST)
    for path in (b"a/b/c", b"", b"a/x", b"a/b", b"k", b"a/b/c"):
        assert os.fstat(descent.enter(path)).st_ino == (tmp_path / os.fsdecode(path)).stat().st_ino
    for wrong, error in (
        (b"a/b/gone", FileNotFoundError),
        (b"link", NotADirectoryError),
        (b"link/b", NotADirectoryError),
    ):
        with pytest.raises(error):
            descent.enter(wrong)
        assert os.fstat(descent.enter(b"a/b")).st_ino == (tmp_path / "a/b").stat().st_ino
    descent.close()
    descent.close()


@pytest.mark.parametrize("path", [b"k", b"a/" * 40 + b"a"], ids=["leaving", "deep"])
def test_an_interrupt_behind_a_close_does_not_close_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: bytes
) -> None:
    """By then the number may be another file's."""
    (tmp_path / "k").mkdir()
    (tmp_path / os.fsdecode(b"a/" * 40 + b"a")).mkdir(parents=True)
    monkeypatch.setattr(descent_module, "KEPT", 8)
    descent = Descent(os.fsencode(tmp_path), TO_LIST)
    descent.enter(b"a/a/a")
    close, closed = os.close, list[int]()

    def interrupted(fd: int) -> None:
        close(fd)
        closed.append(fd)
        if len(closed) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "close", interrupted)
    with pytest.raises(KeyboardInterrupt):
        descent.enter(path)
    descent.close()
    assert len(closed) > 1
    assert len(set(closed)) == len(closed)
