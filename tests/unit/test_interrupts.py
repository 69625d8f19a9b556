"""A signal at a bad moment: it is not lost, leaves no lock behind, and ends a command in good order."""

from __future__ import annotations

import random
import shutil
import signal
import time

import pytest

from command_line import Line, python, spawn

# Two modules made of text: what a library does, under a name of its own, and what happens then.
STAGE = """
import signal, sys, types
from moraine import interrupts

def module(name, text):
    sys.modules["library"] = made = types.ModuleType(name)
    exec(text, made.__dict__)
    return made

module(NAME, LIBRARY)
interrupts.heed(signal.SIGINT, signal.SIGTERM)
try:
    exec(WORK)
except KeyboardInterrupt:
    interrupts.disregard()
    print("stopped")
"""
LIBRARY = """
import os, signal, threading, time
lock = threading.Lock()

def send(number=signal.SIGINT):
    os.kill(os.getpid(), number)

def drop(seconds=0):
    end = time.monotonic() + seconds
    try:
        send()
    except BaseException:
        pass
    while time.monotonic() < end:
        try:
            time.sleep(0.001)
        except BaseException:
            pass

def destroy(do=send):
    class Dying:
        def __del__(self):
            do()

    Dying()

def keep():
    try:
        send()
    except BaseException as error:
        kept = error
        time.sleep(0.1)
        raise

def take():
    lock.acquire()
    send()
    # at work
    lock.release()
    os.write(1, b"given back\\n")

def nest():
    def armed(*words, arm=signal.setitimer):
        arm(*words)
        os.kill(os.getpid(), signal.SIGALRM)

    signal.setitimer = armed

def waits():
    send()
    while True:
        event = threading.Event()
        event.wait(0.001)

def wait():
    send()
    lock.acquire()
    lock.acquire()
""".replace("    # at work\n", 20 * "    sum(range(100_000))\n")
LATER = "library.time.sleep(20)\nprint('went on')"
WORK = {  # the library's name, the work, and what it prints
    "at once": ("lib", "library.send()", ""),
    "dropped": ("lib", f"library.drop()\n{LATER}", ""),
    "dropped in a destructor": ("lib", f"library.destroy()\n{LATER}", ""),
    "dropped for a while": ("lib", f"library.drop(0.1)\n{LATER}", ""),
    "on its way": ("lib", "try:\n library.keep()\nfinally:\n library.time.sleep(0.1)\n print('tidy')", "tidy\n"),
    "with a lock": (
        "queue.library",
        f"library.take()\n{LATER}",
        "given back\n",
    ),
    "with a lock, looked at twice": (
        "queue.library",
        f"library.nest()\nlibrary.take()\n{LATER}",
        "given back\n",
    ),
    "many short waits": ("queue.library", "library.waits()", ""),
    "waiting": ("queue.library", "library.wait()", ""),
    "sigterm twice": ("lib", "try:\n library.send(15)\nfinally:\n library.send(15)\n print('tidy')", "tidy\n"),
}


def staged(name: str, work: str) -> tuple[int, str]:
    """How a process ends that does this work with the library, and what it says."""
    work = f"import library\n{work}"
    text = f"NAME, LIBRARY, WORK = {name!r}, {LIBRARY!r}, {work!r}\n{STAGE}"
    process = python("-c", text, environ={})
    out, err = process.communicate(timeout=30)
    return process.returncode, out + err


@pytest.mark.parametrize("case", WORK)
def test_it_is_not_lost_and_leaves_no_lock_behind(case: str) -> None:
    name, work, said = WORK[case]
    assert staged(name, f"{work}\nprint('went on')") == (0, said + "stopped\n")


def test_what_else_is_dropped_in_a_destructor_is_said() -> None:
    code, said = staged("lib", "library.destroy(lambda: 1 / 0)")
    assert code == 0
    assert "ZeroDivisionError" in said


def test_nothing_comes_when_the_end_is_in_sight() -> None:
    work = """
from moraine import interrupts
try:
    library.send()
except KeyboardInterrupt:
    interrupts.disregard()
library.send(15)
library.send()
library.time.sleep(0.1)
print("in good order")
"""
    assert staged("lib", work) == (0, "in good order\n")


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["backup", "restore", "mirror", "check"])
def test_anywhere(line: Line, verb: str) -> None:
    """Whenever it comes: the command ends soon and says so, no process is left, and the same command then succeeds."""
    chance = random.Random(verb)
    for number in range(1000):
        (line.source / "deep" / f"{number}").write_bytes(chance.randbytes(chance.randrange(9000)))
    (line.source / "large").write_bytes(chance.randbytes(30 << 20))
    line("backup", str(line.source))
    out = line.folder / "out"
    words = {
        "backup": ["backup", str(line.source)],
        "restore": ["restore", "latest", "--to", str(out)],
        "mirror": ["mirror", str(line.source), str(out)],
        "check": ["check"],
    }[verb]
    begun = time.monotonic()
    line(*words, common=verb != "mirror")
    whole = time.monotonic() - begun
    stopped = 0
    for _ in range(60):
        if chance.random() < 0.5:
            shutil.rmtree(out, ignore_errors=True)
        process = spawn(*words, environ=line.environ)
        time.sleep(0.1 + chance.random() * whole)
        process.send_signal(chance.choice([signal.SIGINT, signal.SIGTERM]))
        _, err = process.communicate(timeout=30)
        stopped += process.returncode == 130
        if process.returncode in (-signal.SIGINT, -signal.SIGTERM):
            assert "moraine/cli" not in err  # Python was still on its way there
        elif process.returncode:
            assert process.returncode == 130, err
            assert err.splitlines()[-1].startswith("cancelled: ")
            assert "Traceback" not in err
            assert "ignored" not in err
    assert stopped > 20
    line(*words, common=verb != "mirror")
