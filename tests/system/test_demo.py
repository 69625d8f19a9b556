"""`./moraine run demo` and `./moraine up`, as a user types them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from compare import compare_trees
from servers import free_port

pytestmark = [pytest.mark.system, pytest.mark.slow]


def moraine(root: Path, *arguments: str) -> str:
    done = subprocess.run([root / "moraine", *arguments], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_two_nights_and_a_restore_by_the_printed_command(checkout: Path) -> None:
    first = moraine(checkout, "run", "demo")
    steps = re.findall(r"^  (\w+) +[\d.]+ s   ", first, re.M)
    assert steps == ["open", "list", "diff", "gate", "copy", "verify", "commit", "prove", "retain", "close"]
    second = moraine(checkout, "run", "demo")
    assert "night 1 has passed" in second
    flags = ["--repo", ".demo/repository", "--passphrase-file", ".demo/passphrase"]
    snapshots = json.loads(moraine(checkout, "snapshots", "--json", *flags))
    assert [snapshot["policy"] for snapshot in snapshots] == ["demo", "demo"]
    assert [slot["kind"] for slot in json.loads(moraine(checkout, "key", "list", "--json", *flags))] == ["key"]
    assert (checkout / ".demo/passphrase").stat().st_mode & 0o777 == 0o600
    assert snapshots[1]["added"] < snapshots[0]["added"] / 10
    assert snapshots[1]["id"] in second
    restore = re.search(r"^restore +\./moraine (.*)$", second, re.M)
    assert restore
    moraine(checkout, *restore[1].split())
    assert compare_trees(checkout / ".demo/lake", checkout / "restored") == []


def test_a_run_that_fails_says_why_and_where_the_log_is(checkout: Path) -> None:
    policy = {
        "policy": "lost",
        "source": {"path": "/nowhere"},
        "repository": {"url": "../../.demo/repository", "passphrase_file": "../../.demo/passphrase"},
    }
    (checkout / "include/policies/lost.yaml").write_text(yaml.safe_dump(policy))
    repository = checkout / ".demo/repository"
    repository.parent.mkdir()
    (checkout / ".demo/passphrase").write_text("secret\n")
    moraine(checkout, "repo", "init", str(repository), "--passphrase-file", str(checkout / ".demo/passphrase"))
    done = subprocess.run([checkout / "moraine", "run", "lost"], capture_output=True, text=True, check=False)
    assert done.returncode == 20, done.stdout + done.stderr
    assert re.search(r"^  open .* FAILED  source-missing: ", done.stdout, re.M)
    log = re.search(r"log of it is (.*)$", done.stdout, re.M)
    assert log
    assert "source-missing" in Path(log[1]).read_text()
    assert "Traceback" not in done.stdout + done.stderr


def test_an_unknown_policy_is_one_line(checkout: Path) -> None:
    done = subprocess.run([checkout / "moraine", "run", "nightly"], capture_output=True, text=True, check=False)
    assert done.returncode == 10
    assert done.stderr.startswith("config: there is no policy 'nightly'")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_starts_everything_and_leaves_nothing(checkout: Path, number: signal.Signals) -> None:
    port = free_port()
    up = subprocess.Popen(
        [checkout / "moraine", "up", "--port", str(port)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert up.stdout
    seen: dict[int, psutil.Process] = {}
    try:
        for line in up.stdout:
            seen |= {process.pid: process for process in psutil.Process(up.pid).children(recursive=True)}
            if f"http://localhost:{port} " in line:
                assert re.search(r"user admin, password \S{12,}", line)
                break
        else:
            pytest.fail("it ended before it was ready")
        assert len(seen) >= 4
        busy = subprocess.run([checkout / "moraine", "up"], capture_output=True, text=True, check=False)
        assert busy.returncode == 10
        assert f"up already: http://localhost:{port}" in busy.stderr
    finally:
        up.send_signal(number)
        rest, _ = up.communicate(timeout=60)
    assert up.returncode == 0
    assert "no process is left" in rest
    time.sleep(0.2)
    assert [process for process in seen.values() if process.is_running()] == []


def test_up_says_when_its_port_is_taken(checkout: Path) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "moraine.workflows.up", "--port", str(port)],
            env={**os.environ, "PYTHONPATH": str(checkout / "include")},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 10
    assert f"port {port} is in use" in done.stderr
