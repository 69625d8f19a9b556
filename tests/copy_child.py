"""A process that runs a copy step and says how far it is, to be killed: python copy_child.py '{…}'."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from memory import own_peak
from moraine.repository import unlock
from moraine.sources.posix import PosixSource
from moraine.sources.posix_reader import PosixFile
from moraine.steps import copy, copy_parts
from moraine.steps.run import resume_run
from moraine.stores.open import open_store
from night import make_policy, open_repository

MIB = 1 << 20
SMALL = unlock.Chunking(small=64 << 10, bundle=128 << 10, minimum=1 << 16, average=1 << 18, maximum=MIB, pack=MIB)


def main(given: dict[str, Any]) -> None:
    """Copy the shards that are named; `given` says everything."""
    copy_parts.PART_BYTES = copy.JOURNAL_BYTES = given["interval"]
    if given["small_packs"]:
        unlock.Chunking = lambda **sizes: SMALL  # type: ignore[assignment,misc]
    fd = os.open(given["counter"], os.O_WRONLY | os.O_CREAT)
    _count_reads(fd)
    store = open_store(given["url"], endpoint_url=given["endpoint_url"], environ=given["environ"])
    source = PosixSource(given["source"])
    run = resume_run(
        open_repository(store),
        make_policy(Path(given["source"])),
        source,
        given["session"],
        given["attempt"],
        clock=lambda: datetime.now(UTC) + timedelta(hours=1),  # no file counts as racy
        entropy=os.urandom,
    )
    copied = [copy.copy_shard(run, given["changes"], shard).outcome for shard in given["shards"]]
    Path(given["out"]).write_text(json.dumps({"outcomes": copied, "peak": own_peak()}))


def _count_reads(fd: int) -> None:
    """Keep the number of content bytes read in a file, where a kill cannot reach it."""
    count = 0
    read = PosixFile.readinto

    def readinto(self: PosixFile, view: memoryview) -> int:
        nonlocal count
        got = read(self, view)
        count += got
        os.pwrite(fd, b"%020d" % count, 0)
        return got

    PosixFile.readinto = readinto  # type: ignore[method-assign]


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
