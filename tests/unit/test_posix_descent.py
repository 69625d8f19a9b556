"""Moving between directories by descriptors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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
