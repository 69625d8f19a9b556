"""The chunk index at 10⁸ chunks: what membership and places cost, in seconds per million ids, and in memory.

    PYTHONPATH=include .venv/bin/python tests/bench/large_index.py FOLDER [--chunks 100000000]

Writes about 60 bytes a chunk to FOLDER and removes nothing.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from moraine.engine.packing import RECORD
from moraine.repository.index import Index
from moraine.repository.index_segments import LARGEST_SEGMENT, write_segment
from moraine.repository.keys import Keyring
from moraine.repository.packs import to_locations
from moraine.repository.tables import LOCATION
from moraine.stores.local import LocalStore

MILLION = 1_000_000


def main() -> None:
    """Write a compacted run of segments, then ask it; each number in a process of its own, for its memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--chunks", type=int, default=100_000_000)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    store = LocalStore(args.folder)
    keyring = Keyring.create(lambda size: b"\7" * size)
    bits = (args.chunks // LARGEST_SEGMENT).bit_length()
    segments = []
    began = time.monotonic()
    for number in range(1 << bits):
        table = made(number, bits, args.chunks >> bits)
        segments += write_segment([table], key=f"index/{number}.parquet", store=store, keyring=keyring, level=1)
    print(f"{args.chunks} chunks in {len(segments)} segments, written in {time.monotonic() - began:.0f} s")
    index = Index(store, keyring, segments)
    alone("open and first look", lambda: index.contains([os.urandom(32)]))
    rng = np.random.default_rng(5)
    known = [bytes(made(n, bits, args.chunks >> bits)["id"][0].as_py()) for n in range(0, 1 << bits, 7)]

    def lookups() -> None:
        index.contains([os.urandom(32)])
        spent = time.monotonic()
        for _ in range(MILLION // 500):
            ids = rng.bytes(32 * 500)
            assert not any(index.contains([ids[at : at + 32] for at in range(0, len(ids), 32)]))
        print(f"  a million ids that are new, in batches of 500: {time.monotonic() - spent:.1f} s")
        assert all(index.contains(known))

    alone("a million lookups", lookups)
    alone("places of chunks all over", lambda: index.locate(pa.array(known, pa.binary(32))))


def made(number: int, bits: int, rows: int) -> pa.Table:
    """One segment's rows: random ids with that prefix, in packs of 30."""
    records = np.zeros(rows, RECORD)
    ids = np.random.default_rng(number).integers(0, 256, (rows, 32), dtype=np.uint8)
    prefix = ids[:, :8].copy().view(">u8").ravel().astype(np.uint64) >> np.uint64(bits)
    ids[:, :8] = (prefix | np.uint64(number << (64 - bits))).astype(">u8").view(np.uint8).reshape(-1, 8)
    records["id"] = ids.view("S32").ravel()
    records["offset"], records["length"], records["size"] = 128, 1 << 20, 1 << 21
    parts = [
        to_locations(f"packs/0{number:08d}/{at:026d}", os.urandom(96), records[at : at + (1 << 14)])
        for at in range(0, rows, 1 << 14)
    ]
    return pa.concat_tables([LOCATION.empty_table(), *parts])


def alone(what: str, work: Callable[[], object]) -> None:
    """Run in a child process; print wall time and the most memory it held."""
    began = time.monotonic()
    child = os.fork()
    if not child:
        work()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(f"{what}: {time.monotonic() - began:.1f} s, peak {peak} MiB", flush=True)
        os._exit(0)
    os.waitpid(child, 0)


if __name__ == "__main__":
    main()
