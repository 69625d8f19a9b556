"""The demo lake's tree, and what a night does to it: new days arrive, logs grow, a few things change, move and go."""

from __future__ import annotations

import gzip
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from moraine.demo import content

SEED = 20_260_101
FIRST_DAY = date(2026, 7, 1)
DAYS = 120
SERVICES = ("checkout", "search", "billing", "gateway")
STATIONS = 8


def make_lake(root: Path, seed: int = SEED) -> None:
    """Make the tree; `root` must not exist. A half-made tree is never left under that name."""
    making = root.with_name(root.name + ".making")
    if making.exists():
        shutil.rmtree(making)
    making.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for name, data in _files(rng):
        _write(making / name, data)
    _make_catalog(making / "catalog.sqlite", rng)
    _make_oddities(making)
    making.rename(root)


def live_a_night(root: Path, night: int, seed: int = SEED) -> None:
    """Change the tree as the night of this number does (from 1): about one file in fifty."""
    rng = np.random.default_rng((seed, night))
    day = FIRST_DAY + timedelta(days=DAYS + night - 1)
    for name, data in _day(rng, day):
        _write(root / name, data)
    for service in SERVICES:
        with (root / f"logs/{service}/current.log").open("ab") as log:
            log.write(content.log_lines(rng, day, service, 400))
    _insert(root / "models/ranker/weights.bin", rng)
    _change_catalog(root / "catalog.sqlite", rng, day)
    _write(root / f"images/product-{int(rng.integers(0, 500)):03}.png", content.picture_png(rng, 96))
    _forget_old_logs(root, day)
    _move(root / f"notebooks/study-{night:02}.ipynb", root / f"notebooks/finished/study-{night:02}.ipynb")


def _files(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    for number in range(DAYS):
        yield from _day(rng, FIRST_DAY + timedelta(days=number))
    for service in SERVICES:
        yield f"logs/{service}/current.log", content.log_lines(rng, FIRST_DAY + timedelta(days=DAYS), service, 3_000)
    for number in range(500):
        yield f"images/product-{number:03}.png", content.picture_png(rng, 96)
    for number in range(60):
        yield f"notebooks/study-{number:02}.ipynb", content.notebook(rng, 12)
    for chapter, number in np.ndindex(12, 20):
        yield f"docs/chapter {chapter + 1}/section {number + 1}.md", content.page(rng, 300)
    weights = rng.normal(0, 0.02, 6 << 20).astype(np.float32)
    yield "models/ranker/weights.bin", weights.tobytes()
    yield "models/ranker/README.md", content.page(rng, 120)


def _day(rng: np.random.Generator, day: date) -> Iterator[tuple[str, bytes]]:
    """Everything that arrives in one day."""
    folder = f"orders/year={day.year}/month={day.month:02}/day={day.day:02}"
    for part in range(2):
        yield f"{folder}/part-{part:04}.parquet", content.parquet_bytes(content.orders(rng, day, 4_000))
    yield f"{folder}/_SUCCESS", b""
    for station in range(STATIONS):
        yield f"landing/weather/{day}/station-{station:02}.csv", content.readings_csv(rng, day, station, 1_440)
    for hour in range(0, 24, 3):
        yield f"landing/events/{day:%Y/%m/%d}/{hour:02}.jsonl", content.events_jsonl(rng, day, hour, 200)
    for service in SERVICES:
        packed = gzip.compress(content.log_lines(rng, day, service, 300), 1, mtime=0)
        yield f"logs/{service}/{day}.log.gz", packed


def _make_catalog(path: Path, rng: np.random.Generator) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("create table product (id integer primary key, name text, price real, changed text)")
        names = rng.integers(0, len(content.WORDS), (20_000, 2)).tolist()
        prices = np.round(rng.gamma(2.0, 20.0, 20_000), 2).tolist()
        rows = [
            (number, f"{content.WORDS[a]} {content.WORDS[b]} {number}", price, FIRST_DAY.isoformat())
            for number, ((a, b), price) in enumerate(zip(names, prices, strict=True))
        ]
        database.executemany("insert into product values (?, ?, ?, ?)", rows)


def _change_catalog(path: Path, rng: np.random.Generator, day: date) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        start = int(rng.integers(0, 19_000))
        database.execute(
            "update product set price = price * 1.02, changed = ? where id between ? and ?",
            (day.isoformat(), start, start + 500),
        )


def _make_oddities(root: Path) -> None:
    """What real trees have besides plain files: links, holes, names, an empty folder, a private file."""
    (root / "orders/latest").symlink_to(f"year={FIRST_DAY.year}")
    os.link(root / "models/ranker/weights.bin", root / "models/ranker/weights-v1.bin")
    with (root / "models/scratch.img").open("wb") as sparse:
        sparse.truncate(8 << 20)
        sparse.seek(3 << 20)
        sparse.write(b"not only holes" * 300)
    (root / "inbox").mkdir()
    _write(root / "docs/Überblick – 概要.md", "# Überblick\n".encode())
    _write(root / "models/ranker/token", b"demo only\n")
    (root / "models/ranker/token").chmod(0o600)
    tool = root / "docs/rebuild.sh"
    _write(tool, b"#!/bin/sh\necho rebuilding\n")
    tool.chmod(0o755)


def _insert(path: Path, rng: np.random.Generator) -> None:
    """Put a few new bytes in the middle: everything behind them moves, which content-defined chunks do not mind."""
    data = path.read_bytes()
    at = int(rng.integers(0, len(data)))
    _write(path, data[:at] + rng.bytes(512) + data[at:])


def _forget_old_logs(root: Path, day: date) -> None:
    for service in SERVICES:
        (root / f"logs/{service}/{day - timedelta(days=DAYS)}.log.gz").unlink(missing_ok=True)


def _move(old: Path, new: Path) -> None:
    if old.exists():
        new.parent.mkdir(exist_ok=True)
        old.rename(new)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
