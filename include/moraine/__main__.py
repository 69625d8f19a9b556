"""`python -m moraine`: the command line."""

from __future__ import annotations

import os
import sys

from moraine.cli.main import main


def run() -> None:
    """Run the command line and leave at once.

    By then everything is stored and closed; unloading the libraries one by one would take longer than listing the
    snapshots did, and now and then a thread of Arrow's loses that race and aborts a process that had succeeded.
    """
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
