"""Keeps free memory at hand while something is measured: `python warm_memory.py BYTES`, until its input ends.

A virtual machine gives free memory back to its host, in blocks of 2 MiB, and has to ask for it again when it is used:
writing 2 GB takes 5 s then instead of 1, and giving back what a tool has let go keeps one core busy for seconds while
the next tool is measured. So much memory is touched here, and all of it let go but one page of each MiB: it is free
and at hand, and in no block that could be given back. On a machine of its own this changes nothing.
"""

from __future__ import annotations

import mmap
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

PAGE = mmap.PAGESIZE
KEPT = 256 * PAGE
_POPULATE_WRITE = 23  # MADV_POPULATE_WRITE, since Linux 5.14


@contextmanager
def warm_memory(size: int) -> Iterator[None]:
    """Hold `size` bytes at hand in a process of its own, whose memory is nobody's peak."""
    process = subprocess.Popen(
        [sys.executable, __file__, str(size)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin
    assert process.stdout
    try:
        if not process.stdout.readline():
            print("memory cannot be held at hand here: expect first backups and restores to vary", file=sys.stderr)
        yield
    finally:
        process.stdin.close()
        process.wait()


def hold(size: int) -> None:
    """Touch memory, and keep a page here and there until the input ends."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    memory.madvise(_POPULATE_WRITE)
    for start in range(0, size - KEPT + 1, KEPT):
        memory.madvise(mmap.MADV_DONTNEED, start + PAGE, KEPT - PAGE)
    print("at hand", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    hold(int(sys.argv[1]) // PAGE * PAGE)
