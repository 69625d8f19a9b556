"""Processes that are started, ended in order, and found again after their starter was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from moraine.errors import ConfigError
from moraine.workflows import databases
from moraine.workflows.databases import PostgreSQL, Redis
from moraine.workflows.many_home import ManyHome
from moraine.workflows.services import Command, Services, end_left_over

STUBBORN = "import signal, subprocess, sys, time; signal.signal(15, signal.SIG_IGN);"
PARENT = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
PARENT += " start_new_session=True); time.sleep(600)"
NOTES_ITS_END = """
import pathlib, signal, sys, time
def end(*_):
    with open(sys.argv[1], "a") as file: file.write(sys.argv[2])
    sys.exit()
signal.signal(15, end); signal.signal(2, end); print("up", flush=True); time.sleep(600)
"""
PROGRAM = """
import pathlib, sys, time
from moraine.workflows.services import Command, Services
folder = pathlib.Path(sys.argv[1])
services = Services({}, folder, {"one": Command([sys.executable, "-c", sys.argv[2]])}, folder / "record.json")
services.start()
print("started", flush=True)
time.sleep(600)
"""


def python(program: str, *arguments: str, **options: object) -> Command:
    return Command([sys.executable, "-c", program, *arguments], **options)  # type: ignore[arg-type]


def wait_for(path: Path, text: str) -> None:
    deadline = time.monotonic() + 20
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < deadline, path
        time.sleep(0.02)


def test_what_others_stand_on_ends_last_and_by_its_own_signal(tmp_path: Path) -> None:
    said = tmp_path / "said"
    commands = {
        "base": python(NOTES_ITS_END, str(said), "base ", base=True, end=signal.SIGINT),
        "one": python(NOTES_ITS_END, str(said), "one "),
    }
    services = Services(dict(os.environ), tmp_path, commands, tmp_path / "record.json")
    services.start()
    for name in commands:
        wait_for(services.log(name), "up")
    services.stop()
    assert said.read_text() == "one base "
    assert not (tmp_path / "record.json").exists()


def test_what_does_not_want_to_end_is_killed_with_all_below_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moraine.workflows.services._PATIENCE", 0.5)
    services = Services(dict(os.environ), tmp_path, {"one": python(STUBBORN + PARENT)})
    services.start()
    process = psutil.Process(services.running["one"].pid)
    deadline = time.monotonic() + 20
    while not (below := process.children()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    services.stop()
    assert not process.is_running() and not below[0].is_running()


def test_a_service_that_has_ended_is_named_and_started_again(tmp_path: Path) -> None:
    services = Services(dict(os.environ), tmp_path, {"one": python("import time; time.sleep(600)")})
    services.start()
    assert services.ended() is None
    services.running["one"].kill()
    services.running["one"].wait()
    assert services.ended() == "one"
    services.start_one("one")
    assert services.ended() is None
    services.stop()


def test_what_an_ended_service_has_left_is_ended_before_it_starts_again(tmp_path: Path) -> None:
    leaves = "import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', 'import time;"
    leaves += " time.sleep(600)']); print('up', child.pid, flush=True); time.sleep(600)"
    services = Services(dict(os.environ), tmp_path, {"one": python(leaves)})
    services.start()
    wait_for(services.log("one"), "up")
    left = psutil.Process(int(services.log("one").read_text().split()[1]))
    services.running["one"].kill()
    services.running["one"].wait()
    assert left.is_running()
    services.start_one("one")
    left.wait(10)
    services.stop()


def test_services_of_a_killed_starter_are_ended_by_their_recorded_ids(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "include")}
    arguments = [sys.executable, "-c", PROGRAM, str(tmp_path), "import time; time.sleep(600)"]
    starter = subprocess.Popen(arguments, env=environ, stdout=subprocess.PIPE, text=True)
    assert starter.stdout and starter.stdout.readline() == "started\n"
    (service,) = psutil.Process(starter.pid).children()
    starter.kill()
    starter.wait()
    assert service.is_running()
    record = tmp_path / "record.json"
    text = record.read_text()
    assert end_left_over(record) == ["one"]
    service.wait(10)
    record.write_text(text.replace(str(service.pid), str(os.getpid())))  # the id went to somebody else
    assert end_left_over(record) == []
    assert end_left_over(record) == []


def test_missing_databases_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases.shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match="no redis-server") as caught:
        Redis.of(tmp_path, 1)
    assert "apt install postgresql redis-server" in str(caught.value.hint)
    monkeypatch.setattr(databases.Path, "glob", lambda self, pattern: [])
    with pytest.raises(ConfigError, match="no PostgreSQL"):
        PostgreSQL.of(tmp_path, 1)


def test_redis_listens_on_loopback_with_a_password_that_only_its_owner_reads(tmp_path: Path) -> None:
    redis = Redis(Path("/usr/bin/redis-server"), tmp_path / "redis.conf", 7)
    redis.prepare("secret")
    assert "bind 127.0.0.1\nport 7\nrequirepass secret\n" in redis.config.read_text()
    assert redis.config.stat().st_mode & 0o777 == 0o600
    assert "secret" not in " ".join(redis.command().arguments)


def test_settings_by_flag_overrule_and_must_name_a_section(tmp_path: Path) -> None:
    home = ManyHome(tmp_path, settings={"core.parallelism": "3"})
    home.make_folders()
    home.keep_secrets()
    assert home.environment({})["AIRFLOW__CORE__PARALLELISM"] == "3"
    with pytest.raises(ConfigError, match="'parallelism' is no setting"):
        ManyHome(tmp_path, settings={"parallelism": "3"}).environment({})


def test_services_end_though_the_terminal_has_gone(tmp_path: Path) -> None:
    program = PROGRAM.replace(
        "services.start()\n",
        "from moraine.workflows.keep_up import stopped_at_the_end\nwith stopped_at_the_end(services):\n"
        "    services.start()\n    print('started', flush=True)\n    sys.stdin.read()\n    print('gone', flush=True)\n",
    )
    command = [sys.executable, "-c", program, str(tmp_path), "import time; time.sleep(600)"]
    starter = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert starter.stdout and starter.stdin
    starter.stdout.readline()
    (service,) = psutil.Process(starter.pid).children()
    starter.stdout.close()
    starter.stdin.close()
    starter.wait(30)
    assert not service.is_running()
