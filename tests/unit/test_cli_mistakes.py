"""The command line when something is wrong, stopped, or not to be loaded; and on S3."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

import pytest

from command_line import Line, python, spawn
from moraine.cli.main import main
from servers import S3Server

HEAVY = ("airflow", "pandas", "duckdb", "great_expectations", "pydantic", "yaml", "boto3", "obstore")


# mistakes


def test_every_error_is_one_line_with_its_code(bare: Line) -> None:
    cases: list[tuple[list[str], int, str]] = [
        (["snapshots"], 40, "not-a-repository: "),
        (["backup", str(bare.folder / "nope")], 20, "source-missing: "),
        (["backup"], 10, "config: "),
        (["snapshots", "--passphrase-file", str(bare.folder / "nope")], 40, "not-a-repository: "),
        (["retain", "--policy", "nope.yaml"], 10, "config: there is no policy file"),
        (["repo", "init", "--plain", "--passphrase-file", "x"], 10, "config: "),
    ]
    for words, code, start in cases:
        flags = ["--repo", str(bare.repo)]
        bare(*words, *flags, code=code, common=False)
        assert bare.err.startswith(start)
        assert bare.err.count("\n") == 1
        assert "Traceback" not in bare.err


def test_errors_in_json(bare: Line) -> None:
    bare("snapshots", "--json", code=40)
    found = json.loads(bare.err)
    assert set(found) == {"code", "message", "hint", "context"}
    assert found["code"] == "not-a-repository"


def test_passphrases(line: Line) -> None:
    line.secret.write_text("open sesame")  # without the newline it is the same one
    line("snapshots")
    line.secret.write_text("open sesame\n\n")
    line("snapshots", code=42)
    line.secret.write_text("\n")
    line("snapshots", code=10)
    assert "is empty" in line.err
    line.secret.unlink()
    line("snapshots", code=10)
    line("repo", "init", code=40)


def test_without_a_terminal_nobody_is_asked(bare: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    bare("repo", "init", "--repo", str(bare.repo), common=False, code=10)
    assert "no new passphrase is given" in bare.err
    assert not bare.repo.exists() or not (bare.repo / "moraine.json").exists()


def test_plain_repositories(bare: Line) -> None:
    flags = ["--repo", str(bare.repo)]
    assert "PLAIN" in bare("repo", "init", "--plain", *flags, common=False)
    bare("backup", str(bare.source), *flags, common=False)
    assert "plain, not encrypted" in bare("stats", *flags, common=False)
    assert "plain repository" in bare("key", "list", *flags, common=False)


def test_wrong_usage(capfd: pytest.CaptureFixture[str]) -> None:
    for words, text in (
        (["snapshot"], "did you mean 'snapshots'?"),
        (["key", "ad"], "did you mean 'add'?"),
        (["restore", "latest"], "--to"),
        (["restore", "latest", "--to", "x", "--owners", "me"], "there is no 'me'"),
        (["snapshots", "--last", "0"], "not a number from 1 up"),
        (["snapshots", "--pol", "x"], "--pol"),
        ([], "verbs:"),
    ):
        assert main(words) == 2
        captured = capfd.readouterr()
        assert text in captured.err
        assert not captured.out


def test_an_unforeseen_failure_is_one_line_too(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr("moraine.report.snapshots.sort_snapshots", fail)
    line("snapshots", code=1)
    assert line.err == "internal: ZeroDivisionError: of all things (this is a bug; --debug shows where)\n"
    line("snapshots", "--debug", code=1)
    assert "Traceback" in line.err


# processes


def test_verbs_start_light(line: Line) -> None:
    verbs = [
        f"backup {line.source}",
        "check",
        "--help",
        "snapshots",
        "ls",
        "find *",
        "diff latest latest",
        "stats",
        "key list",
        "hold list",
        "nonsense",
    ]
    program = (
        "import sys, os\n"
        "from moraine.cli.main import main\n"
        "sys.stdout = open(os.devnull, 'w')\n"
        "for verb in sys.argv[2:]: main(verb.split())\n"
        "sys.stderr.write('LOADED ' + ' '.join(m for m in sys.argv[1].split() if m in sys.modules))\n"
    )
    process = python("-c", program, " ".join(HEAVY), *verbs, environ=line.environ)
    assert process.communicate()[1].endswith("LOADED ")


def test_a_night_and_a_restore_load_no_more_than_they_need(line: Line) -> None:
    spare = "pyarrow.compute pyarrow.dataset pyfastcdc numpy.ma numpy.random zoneinfo"
    spare += " moraine.steps.mirror_content moraine.steps.restore_verify"
    program = (
        "import sys\n"
        "from moraine.cli.main import main\n"
        "code = main(sys.argv[2].split())\n"
        "sys.stderr.write(f'{code} LOADED ' + ' '.join(m for m in sys.argv[1].split() if m in sys.modules))\n"
    )
    line("backup", str(line.source))
    (line.source / "c.txt").write_text("new")
    (line.source / "a.txt").rename(line.source / "d.txt")
    restore = f"restore latest --to {line.folder / 'out'}"
    for verb in (f"backup {line.source}", f"backup {line.source}", "check --read-data", restore, restore):
        process = python("-c", program, spare, verb, environ=line.environ)
        assert process.communicate()[1].endswith("0 LOADED "), verb


def test_garbage_is_collected_once_all_is_loaded(line: Line) -> None:
    mirrored = f"mirror {line.source} {line.folder / 'mirrored'}"
    for verb in (f"backup {line.source}", "check", "snapshots", mirrored):
        program = (
            "import gc, os, sys, runpy\n"
            "first, end = os.getpid(), os._exit\n"
            "def leave(code):\n"
            "    if os.getpid() != first: end(code)\n"  # a process that was forked to list ahead
            "    sys.stderr.write(f'{code} {gc.isenabled()}')\n"
            "os._exit = leave\n"
            "sys.argv = ['moraine', *sys.argv[1].split()]\n"
            "runpy.run_module('moraine', run_name='__main__', alter_sys=True)\n"
        )
        process = python("-c", program, verb, environ=line.environ)
        assert process.communicate()[1].endswith("0 True"), verb


def test_help_imports_next_to_nothing() -> None:
    program = "import sys; from moraine.cli.main import main; main(['--help']); sys.exit('pyarrow' in sys.modules)"
    process = python("-c", program, environ={})
    process.communicate()
    assert process.returncode == 0


def test_a_reader_that_goes_away(line: Line) -> None:
    process = spawn("sql", "select range from range(10000000)", "--csv", environ=line.environ)
    assert process.stdout
    assert process.stderr
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(20) == 141
    assert process.stderr.read() == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal(line: Line, number: signal.Signals) -> None:
    (line.source / "big").write_bytes(os.urandom(400 << 20))
    before = len(list((line.repo / "log").iterdir()))
    process = spawn("backup", str(line.source), environ=line.environ)
    wait_for(lambda: len(list((line.repo / "log").iterdir())) > before)  # the session is open
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert err.splitlines()[-1].startswith("cancelled: ")
    assert "Traceback" not in err
    assert len(line.json("snapshots")) == 1
    line("backup", str(line.source))  # goes on from what was stored
    assert len(line.json("snapshots")) == 2


@pytest.mark.parametrize("chained", [True, False])
def test_an_error_of_an_interrupt(line: Line, monkeypatch: pytest.MonkeyPatch, chained: bool) -> None:
    """What comes up while an interrupt is on its way, or what a library makes of one, is not what has happened."""

    def run(args: object, context: object) -> int:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(20)
        except KeyboardInterrupt:
            if chained:
                raise OSError(9, "Bad file descriptor") from None
        raise RuntimeError("Query interrupted")

    monkeypatch.setattr("moraine.cli.snapshots.run", run)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in a shell's background has it ignored
    line("snapshots", code=130)
    assert line.err.startswith("cancelled: ")


def test_a_passphrase_from_a_pipe(line: Line) -> None:
    """It is opened once, and only when nothing else is in the way."""
    pipe, plain = line.folder / "fifo", line.folder / "plain"
    os.mkfifo(pipe)
    line("repo", "init", "--plain", "--repo", str(plain), common=False)
    flags = ["--passphrase-file", str(pipe)]

    def ends(code: int, *words: str) -> str:
        process = spawn(*words, *flags, environ={})
        _, err = process.communicate(timeout=20)
        assert process.returncode == code, err
        return str(err)

    ends(0, "snapshots", "--repo", str(plain))
    ends(40, "snapshots", "--repo", str(line.folder / "none"))
    ends(20, "backup", str(line.folder / "missing"), "--repo", str(line.repo))
    for content, code in ((b"open sesame\n", 0), (b"", 10)):
        writer = threading.Thread(target=pipe.write_bytes, args=(content,))
        writer.start()
        ends(code, "backup", str(line.source), "--repo", str(line.repo))
        writer.join()


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


# S3


def test_an_s3_repository(
    bare: Line, s3_bucket: Callable[[str], tuple[S3Server, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, bucket = s3_bucket("moto")
    for name, value in server.credentials.items():
        monkeypatch.setenv(name, value)
    flags = ["--repo", f"s3://{bucket}/some/prefix", "--endpoint-url", server.endpoint_url, "--region", server.region]
    flags += ["--passphrase-file", str(bare.secret)]
    bare("repo", "init", *flags, common=False)
    bare("backup", str(bare.source), *flags, common=False)
    bare(*flags, "restore", "latest", "--to", str(bare.folder / "out"), common=False)
    assert (bare.folder / "out" / "a.txt").read_text() == "hello"
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint_url)
    bare("snapshots", "--repo", f"s3://{bucket}/nothing", common=False, code=40)
    bare("snapshots", "--repo", "s3://no-such-bucket/x", common=False, code=30)
    assert bare.err.count("\n") == 1
