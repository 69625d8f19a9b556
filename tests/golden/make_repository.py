"""Makes a golden repository of the present format: `python tests/golden/make_repository.py FOLDER`.

Run once per format version, by hand; the result is committed and never changed. Two nights of one small tree, encrypted
and plain, and what each night has to restore to.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


def main(folder: Path) -> None:
    """Make `folder/encrypted`, `folder/plain` and `folder/expected.json`."""
    work = Path(tempfile.mkdtemp())
    source = work / "source"
    folder.mkdir(parents=True)
    (folder / "passphrase").write_text("golden\n")
    expected = []
    for night in (first, second):
        night(source)
        expected.append(describe(source))
        for kind in ("encrypted", "plain"):
            if night is first:
                moraine(folder, kind, "repo", "init", *(["--plain"] if kind == "plain" else []))
            moraine(folder, kind, "backup", str(source), "--name", "golden")
    (folder / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")
    for kind in ("encrypted", "plain"):
        shutil.rmtree(folder / kind / ".tmp", ignore_errors=True)
    shutil.rmtree(work)


def moraine(folder: Path, kind: str, *arguments: str) -> None:
    """Run the command line against one of the two."""
    flags = ["--repo", str(folder / kind), "--quiet"]
    flags += ["--passphrase-file", str(folder / "passphrase")] if kind == "encrypted" else []
    subprocess.run([sys.executable, "-m", "moraine", *arguments, *flags], check=True)


def first(source: Path) -> None:
    """The first night's tree."""
    (source / "dir/deep").mkdir(parents=True)
    (source / "empty").mkdir()
    (source / "small").write_bytes(b"small\n")
    (source / "none").write_bytes(b"")
    (source / "dir/repeated").write_bytes(b"0123456789abcdef" * 100_000)  # several chunks of content
    with open(source / "dir/holes", "wb") as file:
        file.truncate(1 << 20)
        file.seek(1 << 19)
        file.write(b"in the middle")
    os.link(source / "small", source / "dir/deep/link")
    os.symlink("../small", source / "dir/symlink")
    (source / os.fsdecode(b"caf\xe9")).write_bytes(b"not UTF-8")
    date(source, 1_600_000_000_123_456_789)


def second(source: Path) -> None:
    """The second night's."""
    (source / "none").unlink()
    (source / "new").write_bytes(b"new\n" * 10)
    (source / "dir/repeated").chmod(0o600)
    date(source, 1_700_000_000_987_654_321)


def date(source: Path, ns: int) -> None:
    """Give everything one time."""
    for path in [*source.rglob("*"), source]:
        os.utime(path, ns=(ns, ns), follow_symlinks=False)


def describe(root: Path) -> dict[str, list[object]]:
    """Everything about a tree that has to come back, by path."""
    found: dict[str, list[object]] = {}
    for path in sorted([root, *root.rglob("*")]):
        stat = os.lstat(path)
        what: str = "directory"
        if path.is_symlink():
            what = "-> " + os.readlink(path)
        elif path.is_file():
            what = hashlib.sha256(path.read_bytes()).hexdigest()
        name = os.fsencode(path.relative_to(root)).decode("utf-8", "backslashreplace")
        links = stat.st_nlink if path.is_file() else 0
        found[name] = [what, oct(stat.st_mode), stat.st_mtime_ns, links]
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
