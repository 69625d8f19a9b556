"""The most memory that a process had.

What `getrusage` says of a process includes what it was before `exec`: one that a large test starts begins as large as
that test. So it is asked for this program only (`own_peak`), or a small process starts it (`command_peak`).
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_STARTER = """
import os, sys
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(child, 0)
print(used.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def own_peak() -> int:
    """Bytes that were resident in this process at most."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) << 10


def command_peak(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run a program that prints nothing and has to succeed; the bytes that it or one of its children had at most."""
    starter = [sys.executable, "-I", "-S", "-c", _STARTER, *command]
    done = subprocess.run(starter, env=dict(environ), stdout=subprocess.PIPE, check=True)
    return int(done.stdout) << 10
