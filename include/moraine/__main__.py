"""`python -m moraine`: the command line."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys

# What is loaded at the start stays: looking through it for garbage takes a tenth of a short command's time.
# `Context.loaded` lets the collector begin, in every verb that opens a repository.
if __name__ == "__main__":
    gc.disable()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing has begun that `main` would have to end in good order

# Buffers come and go in large pieces here. Arrow's own pool, and the arenas that the C library opens for every thread,
# keep 50 and 90 MB of them for later, at no gain in speed. Both look at this once: Arrow when it is loaded.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
# NumPy's linear algebra is not used here; its threads would spin through every start.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
    libc.mallopt(-8, 1)  # M_ARENA_MAX

from moraine import interrupts
from moraine.cli.main import main


def run() -> None:
    """Run the command line and leave at once.

    By then everything is stored and closed; unloading the libraries one by one would take longer than listing the
    snapshots did, and now and then a thread of Arrow's loses that race and aborts a process that had succeeded.
    """
    code = main()
    interrupts.disregard()  # it is over, and has been said
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
