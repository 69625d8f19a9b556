"""Trees to back up, the same on every machine: many small files, a data lake, one large file, and a night's changes.

python workloads.py "small files" TREE SCALE
python workloads.py night TREE SEED
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

MIB = 1 << 20
INSERTED = 1_000_003  # no multiple of anything, so that fixed cuts gain nothing by luck
FIRST_TIME = 1_700_000_000


def small(tree: Path, scale: float) -> None:
    """50,000 text files around 4 KiB in 1,000 nested directories; a tenth of them ends in noise."""
    rng = np.random.default_rng(11)
    words = text(rng, 64 * MIB)
    folders = [tree]
    for number in range(1000):
        folder = folders[int(rng.integers(0, len(folders)))]
        folders.append((folder if len(folder.parts) - len(tree.parts) < 8 else tree) / f"d{number:04d}")
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    count = int(50_000 * scale)
    sizes = np.minimum(rng.lognormal(np.log(4096), 1.3, count), 4 * MIB).astype(int).tolist()
    starts = rng.integers(0, len(words) - 4 * MIB, count).tolist()
    for number, (size, start) in enumerate(zip(sizes, starts, strict=True)):
        noise = rng.bytes(size // 2) if number % 10 == 0 else b""
        content = b"%016d" % number + words[start : start + size - len(noise)] + noise
        save(folders[number % len(folders)] / f"f{number:06d}.txt", content, number)


def lake(tree: Path, scale: float) -> None:
    """200 files of a data lake, 1.5 GB: Parquet, CSV, and what is compressed already; a few large, many middling."""
    rng = np.random.default_rng(12)
    sizes = rng.lognormal(0, 0.8, 200)
    for number, size in enumerate((sizes / sizes.sum() * 1.5e9 * scale).astype(int).tolist()):
        folder = tree / f"table={number % 10}" / f"month=2026-{1 + number // 20:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"part-{number:04d}.{('parquet', 'bin', 'parquet', 'csv')[number % 4]}"
        if number % 4 == 1:
            path.write_bytes(rng.bytes(size))
        elif number % 4 == 3:
            pyarrow.csv.write_csv(orders(rng, max(100, size // 48)), path)
        else:
            pyarrow.parquet.write_table(orders(rng, max(100, size // 18)), path)
        os.utime(path, (FIRST_TIME + number,) * 2)


def large(tree: Path, scale: float) -> None:
    """One file of 2 GB: a megabyte of text, a megabyte of noise, in turns."""
    rng = np.random.default_rng(13)
    words = text(rng, 64 * MIB)
    tree.mkdir(parents=True, exist_ok=True)
    with (tree / "image").open("wb") as file:
        for _ in range(int(1000 * scale)):
            start = int(rng.integers(0, len(words) - MIB))
            file.write(words[start : start + MIB])
            file.write(rng.bytes(MIB))


def night(tree: Path, seed: int) -> None:
    """2 % of the files changed, 0.5 % each added, deleted and renamed; of few files at least one each."""
    rng = np.random.default_rng(seed)
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    if len(files) == 1:
        insert(files[0], rng.bytes(INSERTED))
        return
    few = max(1, len(files) // 200)
    chosen = [files[n] for n in rng.choice(len(files), 7 * few, replace=False)]
    for number, path in enumerate(chosen[: 4 * few]):
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            file.write(rng.bytes(200))
        os.utime(path, (FIRST_TIME + 10**6 * seed + number,) * 2)
    for path in chosen[4 * few : 5 * few]:
        save(path.with_name(f"new-{seed}-{path.name}"), rng.bytes(path.stat().st_size), seed)
    for path in chosen[5 * few : 6 * few]:
        path.unlink()
    for path in chosen[6 * few :]:
        path.rename(path.with_name(f"moved-{seed}-{path.name}"))


def insert(path: Path, content: bytes) -> None:
    """Put bytes in front of a file."""
    beside = path.with_name("inserted")
    with path.open("rb") as old, beside.open("wb") as new:
        new.write(content)
        shutil.copyfileobj(old, new, MIB)
    beside.rename(path)


def text(rng: np.random.Generator, size: int) -> bytes:
    """Words by their frequency, with the punctuation and the indentation of code: zstd makes a third of it."""
    letters = rng.choice(np.frombuffer(b"etaoinshrdlucmfwypvbgkjqxz_", np.uint8), 80_000).tobytes()
    ends = np.cumsum(rng.integers(2, 9, 10_000)).tolist()
    vocabulary = [letters[start:end] for start, end in pairwise([0, *ends])]
    between = [b" ", b" ", b" ", b"(", b")", b", ", b" = ", b".", b"\n", b"\n    ", b";\n"]
    parts: list[bytes] = []
    length = 0
    while length < size:
        picked = np.minimum(rng.zipf(1.35, 200_000), len(vocabulary)) - 1
        gaps = rng.integers(0, len(between), 200_000)
        parts.append(
            b"".join([vocabulary[p] + between[g] for p, g in zip(picked.tolist(), gaps.tolist(), strict=True)])
        )
        length += len(parts[-1])
    return b"".join(parts)[:size]


def orders(rng: np.random.Generator, rows: int) -> pa.Table:
    """A table: ascending ids, a skewed category, amounts, times, random keys."""
    return pa.table(
        {
            "id": np.arange(rows) + int(rng.integers(0, 1 << 40)),
            "kind": np.minimum(rng.zipf(1.5, rows), 500).astype(np.int32),
            "amount": np.round(rng.normal(100, 25, rows), 2),
            "at": np.cumsum(rng.integers(0, 5000, rows)),
            "key": rng.integers(0, 1 << 62, rows),
        }
    )


def save(path: Path, content: bytes, number: int) -> None:
    """Write a file with a time of its own."""
    path.write_bytes(content)
    os.utime(path, (FIRST_TIME + number,) * 2)


WORKLOADS: dict[str, Callable[[Path, float], None]] = {"small files": small, "data lake": lake, "one large file": large}

if __name__ == "__main__":
    if sys.argv[1] == "night":
        night(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        WORKLOADS[sys.argv[1]](Path(sys.argv[2]), float(sys.argv[3]))
