"""What an ordinary user sees, also where the tests run as root."""

from __future__ import annotations

import os
import subprocess
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.compute  # noqa: F401  (this and what follows Moraine loads when it needs them: an ordinary user may
import pydantic.types  # noqa: F401    not be allowed to read the interpreter's own modules)
import pyfastcdc  # noqa: F401

NOBODY = 65534


@contextmanager
def open_directory() -> Iterator[Path]:
    """A directory that an ordinary user can reach, which pytest's tmp_path is not; of any depth when it is removed."""
    root = Path(tempfile.mkdtemp(prefix="open-"))
    root.chmod(0o755)
    try:
        yield root
    finally:
        subprocess.run(["rm", "-rf", root], check=True)


def as_nobody(root: Path, act: Callable[[], None], *, give: bool = True) -> None:
    """Run `act` without privileges, in a child when the tests run as root; what it raises fails the test.

    Args:
        root: the tree it works in; handed over to the ordinary user first.
        act: what to do; all modules it needs have to be imported by then.
        give: False leaves the tree to its owner.
    """
    if os.geteuid() != 0:
        act()
        return
    if give:
        subprocess.run(["chown", "-hR", f"{NOBODY}:{NOBODY}", root], check=True)
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            act()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "the child without privileges failed: see stderr"
