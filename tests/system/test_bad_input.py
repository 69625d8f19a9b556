"""Bad input of every kind, as a user meets it: one clear line, the documented exit code, a sound repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from moraine.errors import AccessDenied
from moraine.repository import layout
from moraine.repository.documents import read_open, write_open
from moraine.repository.repository import Repository
from moraine.stores.local import LocalStore
from servers import S3Server, told
from unprivileged import NOBODY, open_directory

ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="mounts and users need root")


@dataclass
class Place:
    """A folder with a source, a passphrase and a repository that holds one snapshot of the source."""

    folder: Path

    def moraine(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run the command line as a user would."""
        return subprocess.run(
            [sys.executable, "-m", "moraine", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=self.folder,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": os.pathsep.join(sys.path),
                "MORAINE_REPOSITORY": str(self.folder / "repository"),
                "MORAINE_PASSPHRASE_FILE": str(self.folder / "passphrase"),
                **environ,
            },
        )

    def ok(self, *arguments: str) -> str:
        """Run and expect success; its standard output."""
        done = self.moraine(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fails(self, exit_code: int, code: str, *arguments: str, **environ: str) -> str:
        """Run and expect one line of that code, with a hint, and that exit code; the line."""
        done = self.moraine(*arguments, "--quiet", **environ)
        lines = done.stderr.strip().splitlines()
        assert (done.returncode, len(lines)) == (exit_code, 1), done.stderr
        assert lines[0].startswith(f"{code}: ") and lines[0].endswith(")"), lines[0]
        assert "Traceback" not in done.stderr
        return lines[0]

    def require_sound(self, snapshots: int = 1) -> None:
        """The repository checks out to the last byte, and a backup still works."""
        self.ok("check", "--read-data")
        assert len(json.loads(self.ok("snapshots", "--json"))) == snapshots
        self.ok("backup", "source")


@pytest.fixture
def place() -> Iterator[Place]:
    with open_directory() as folder:
        made = Place(folder)
        (folder / "passphrase").write_text("a passphrase\n")
        (folder / "source").mkdir()
        (folder / "source/file").write_bytes(os.urandom(200_000))
        made.ok("repo", "init", str(folder / "repository"))
        made.ok("backup", "source")
        yield made


def policy(place: Place, text: str) -> str:
    """A policy file of the place, with `text` put in."""
    path = place.folder / "policy.yaml"
    path.write_text(
        f"policy: source\nsource: {{path: {place.folder}/source}}\nrepository: {{url: repository}}\n{text}\n"
    )
    return str(path)


def test_an_unknown_policy_key_is_told_with_a_suggestion(place: Place) -> None:
    line = place.fails(10, "config", "backup", "--policy", policy(place, "compresion: {level: 3}"))
    assert "compresion" in line and "compression" in line and "policy.yaml" in line
    place.require_sound()


@pytest.mark.parametrize("text", ["keep: {}", "keep: {daily: 0}", "keep: {dayly: 7}", "keep: {daily: -1}", "keep: x"])
def test_a_dangerous_retention_rule_is_refused(place: Place, text: str) -> None:
    done = place.moraine("retain", "--policy", policy(place, text))
    assert done.returncode == 10
    assert "Traceback" not in done.stderr
    place.require_sound()


def test_a_missing_source(place: Place) -> None:
    assert "nowhere" in place.fails(20, "source-missing", "backup", "nowhere")
    place.require_sound()


def test_a_file_as_source(place: Place) -> None:
    done = place.moraine("backup", "source/file", "--quiet")
    assert done.returncode == 20 and "Traceback" not in done.stderr


@needs_root
def test_an_unmounted_source(place: Place) -> None:
    path = policy(place, "")
    Path(path).write_text(Path(path).read_text().replace("/source}", "/source, must_be_mount: true}"))
    place.fails(20, "source-unmounted", "backup", "--policy", path)
    place.require_sound()


def test_an_emptied_source_is_stopped_at_the_gate(place: Place) -> None:
    (place.folder / "source/file").rename(place.folder / "aside")
    place.fails(21, "gate-refused", "backup", "source")
    (place.folder / "aside").rename(place.folder / "source/file")
    place.require_sound()


def test_no_repository_there(place: Place) -> None:
    place.fails(40, "not-a-repository", "snapshots", "--repo", str(place.folder / "source"))
    place.fails(40, "already-a-repository", "repo", "init", str(place.folder / "repository"))
    place.require_sound()


def test_a_wrong_passphrase(place: Place) -> None:
    (place.folder / "other").write_text("another one\n")
    place.fails(42, "wrong-passphrase", "snapshots", "--passphrase-file", str(place.folder / "other"))
    (place.folder / "other").write_text("\n")
    place.fails(10, "config", "snapshots", "--passphrase-file", str(place.folder / "other"))
    place.fails(10, "config", "snapshots", "--passphrase-file", str(place.folder / "missing"))
    place.require_sound()


def test_a_repository_of_a_newer_format(place: Place) -> None:
    path = place.folder / "repository" / layout.CONFIG
    whole = path.read_bytes()
    content = read_open(whole, key=layout.CONFIG, keyring=None)
    path.unlink()
    path.write_bytes(write_open({**content, "format": 2}, key=layout.CONFIG, keyring=None))
    line = place.fails(41, "unsupported-format", "backup", "source")
    assert "format 2" in line
    path.write_bytes(whole)
    place.require_sound()


@needs_root
def test_a_read_only_repository(place: Place) -> None:
    repository = place.folder / "repository"
    mounted = subprocess.run(["mount", "--bind", "-o", "ro", repository, repository], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounts are not allowed here")
    try:
        place.fails(35, "store-read-only", "backup", "source")
        assert len(json.loads(place.ok("snapshots", "--json"))) == 1
        place.ok("restore", "latest", "--to", str(place.folder / "out"))
    finally:
        subprocess.run(["umount", repository], check=True)
    place.require_sound()


@needs_root
def test_a_repository_of_somebody_else(place: Place) -> None:
    for path in [place.folder / "repository", *(place.folder / "repository").rglob("*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)
    child = os.fork()
    if not child:
        os.setuid(NOBODY)
        try:
            LocalStore(str(place.folder / "repository")).get(layout.CONFIG)
        except AccessDenied:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@needs_root
def test_a_disk_that_fills_up_in_the_middle(place: Place) -> None:
    small = place.folder / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", small], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounts are not allowed here")
    try:
        url = str(small / "repository")
        place.ok("repo", "init", url)
        place.ok("backup", "source", "--repo", url)
        big = place.folder / "source/big"
        big.write_bytes(os.urandom(20 << 20))
        place.fails(32, "store-full", "backup", "source", "--repo", url)
        place.ok("check", "--read-data", "--repo", url)
        big.unlink()
        place.ok("backup", "source", "--repo", url)  # what the failed run left does not stand in the way
        place.ok("check", "--read-data", "--repo", url)
        assert len(json.loads(place.ok("snapshots", "--json", "--repo", url))) == 2
    finally:
        subprocess.run(["umount", small], check=True)


def test_wrong_credentials(place: Place) -> None:
    with told() as server:
        server.error(403, "InvalidAccessKeyId")
        arguments = ("snapshots", "--repo", "s3://bucket/prefix", "--endpoint-url", server.endpoint_url)
        place.fails(31, "access-denied", *arguments, AWS_ACCESS_KEY_ID="wrong", AWS_SECRET_ACCESS_KEY="wrong")


def test_a_bucket_that_is_not_there(place: Place, s3_server: Callable[[str], S3Server]) -> None:
    server = s3_server("moto")
    arguments = ("repo", "init", "s3://no-such-bucket-here/prefix", "--endpoint-url", server.endpoint_url)
    line = place.fails(30, "store", *arguments, **dict(server.credentials))
    assert "no-such-bucket-here" in line


@pytest.mark.slow
def test_a_server_that_is_not_there(place: Place) -> None:
    done = place.moraine(
        "snapshots", "--repo", "s3://bucket/prefix", "--endpoint-url", "http://127.0.0.1:9", "--quiet",
        AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x",
    )  # fmt: skip
    assert done.returncode == 33, done.stderr
    assert done.stderr.startswith("store-unavailable: ")


def test_a_clock_an_hour_behind_the_log(place: Place) -> None:
    """The machine that wrote last had a clock an hour ahead of this one's."""
    store = LocalStore(str(place.folder / "repository"))
    repository = Repository.open(store, lambda: b"a passphrase", entropy=os.urandom)
    repository.log.append("key-change", {"label": "from the future"}, now=datetime.now(UTC) + timedelta(hours=1))
    assert "clock" in place.fails(47, "clock-skew", "backup", "source")
    place.ok("check", "--read-data")
    place.ok("restore", "latest", "--to", str(place.folder / "out"))
    assert len(json.loads(place.ok("snapshots", "--json"))) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("restore", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "--to", "out"),
        ("ls", "nothing-like-it"),
        ("diff", "latest", "zzzz"),
    ],
)
def test_an_unknown_snapshot(place: Place, arguments: tuple[str, ...]) -> None:
    place.fails(43, "snapshot-not-found", *arguments)


def test_a_bad_query(place: Place) -> None:
    assert "nowhere" in place.fails(10, "config", "sql", "select * from nowhere")
    place.fails(10, "config", "sql", "copy (select 1) to '/tmp/x.csv'")


def test_wrong_flags_are_exit_code_2(place: Place) -> None:
    assert place.moraine("backup", "--no-such-flag").returncode == 2
    assert place.moraine("frobnicate").returncode == 2
