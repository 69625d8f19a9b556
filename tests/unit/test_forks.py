"""Forked processes that share a list of items: nothing is lost, nothing is left behind, the dead are missed."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from moraine.errors import MoraineError, StoreUnavailable
from moraine.steps.forks import in_processes, may_fork


def test_every_item_is_worked_on_once() -> None:
    mine = os.getpid()

    def work(number: int) -> tuple[int, int, bytes]:
        return number, os.getpid(), bytes([number % 251]) * (number * 100)

    found = list(in_processes(work, 3000, 3))
    assert sorted((number, data) for number, _, data in found) == [
        (n, bytes([n % 251]) * (n * 100)) for n in range(3000)
    ]
    assert mine not in {process for _, process, _ in found}
    assert list(in_processes(work, 0, 3)) == []


def test_a_slow_process_does_not_hold_the_others_up() -> None:
    def work(number: int) -> tuple[int, int]:
        if number == 0:
            time.sleep(0.5)
        return number, os.getpid()

    found = list(in_processes(work, 50, 2))
    slow = next(process for number, process in found if number == 0)
    assert [number for number, process in found if process == slow] == [0]


def test_an_error_is_raised_and_the_others_end(tmp_path: Path) -> None:
    def work(number: int) -> int:
        (tmp_path / str(os.getpid())).touch()
        if number == 5:
            raise StoreUnavailable("no answer", hint="wait", object="packs/5")
        time.sleep(0.01)
        return number

    with pytest.raises(StoreUnavailable) as raised:
        list(in_processes(work, 1000, 2))
    assert (raised.value.hint, raised.value.context) == ("wait", {"object": "packs/5"})
    assert_gone(tmp_path)


def test_a_killed_process_is_an_error(tmp_path: Path) -> None:
    def work(number: int) -> int:
        (tmp_path / str(os.getpid())).touch()
        if number == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    with pytest.raises(MoraineError, match="killed by signal 9"):
        list(in_processes(work, 1000, 2))
    assert_gone(tmp_path)


def test_what_is_left_early_ends(tmp_path: Path) -> None:
    def work(number: int) -> int:
        (tmp_path / str(os.getpid())).touch()
        time.sleep(0.01)
        return number

    answers = in_processes(work, 1000, 2)
    next(answers)
    answers.close()
    assert len(list(tmp_path.iterdir())) > 0
    assert_gone(tmp_path)


def test_children_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    def work(number: int) -> int:
        (tmp_path / str(os.getpid())).touch()
        time.sleep(0.01)
        return number

    parent = os.fork()
    if not parent:
        for _ in in_processes(work, 100_000, 2):
            pass
        os._exit(0)
    while len(list(tmp_path.iterdir())) < 2:
        time.sleep(0.01)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    began = time.monotonic()
    while any(alive(int(path.name)) for path in tmp_path.iterdir()):
        assert time.monotonic() - began < 10
        time.sleep(0.05)


def test_not_beside_other_threads() -> None:
    over = threading.Event()
    other = threading.Thread(target=over.wait)
    other.start()
    assert not may_fork()
    over.set()
    other.join()


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # an orphan that nobody has asked for yet


def assert_gone(folder: Path) -> None:
    for path in folder.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name), 0)
