"""What demo files hold: tables, logs, images, pages. Every function is pure: bytes out of a random generator."""

from __future__ import annotations

import json
import struct
import zlib
from datetime import date, datetime, time, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

CITIES = np.array(
    ["Aarhus", "Basel", "Córdoba", "Dresden", "Eindhoven", "Fukuoka", "Gdańsk", "Hobart", "İzmir", "Jaipur"]
)
STATES = np.array(["placed", "paid", "packed", "shipped", "returned"])
WORDS = (
    "amber basalt cirque drumlin esker firn glacier horn icefall kettle lateral moraine névé outwash serac till".split()
)


def orders(rng: np.random.Generator, day: date, rows: int) -> pa.Table:
    """A day's orders."""
    midnight = np.datetime64(datetime.combine(day, time()), "us")
    return pa.table(
        {
            "order_id": np.sort(rng.integers(10**9, 10**10, rows)),
            "customer_id": rng.integers(1, 40_000, rows),
            "placed_at": np.sort(midnight + rng.integers(0, 86_400 * 10**6, rows).astype("timedelta64[us]")),
            "city": pa.array(CITIES[rng.integers(0, len(CITIES), rows)]).dictionary_encode(),
            "state": pa.array(STATES[rng.integers(0, len(STATES), rows)]).dictionary_encode(),
            "items": rng.integers(1, 12, rows).astype(np.int16),
            "amount": np.round(rng.gamma(2.0, 30.0, rows), 2),
        }
    )


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


def readings_csv(rng: np.random.Generator, day: date, station: int, rows: int) -> bytes:
    """A weather station's readings of one day."""
    table = pa.table(
        {
            "station": np.full(rows, station, np.int16),
            "minute": np.arange(rows, dtype=np.int32),
            "day": pa.array([day.isoformat()] * rows),
            "temperature": np.round(rng.normal(4, 6, rows).cumsum() / 50, 2),
            "wind": np.round(rng.weibull(2.0, rows) * 8, 1),
        }
    )
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(table, sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def events_jsonl(rng: np.random.Generator, day: date, hour: int, rows: int) -> bytes:
    """An hour's click events, one JSON object per line."""
    start = datetime.combine(day, time(hour))
    seconds = np.sort(rng.integers(0, 3600, rows)).tolist()
    users, pages = rng.integers(1, 40_000, rows).tolist(), rng.integers(0, 900, rows).tolist()
    lines = (
        f'{{"at":"{(start + timedelta(seconds=second)).isoformat()}Z","user":{user},"page":"/product/{page}",'
        f'"event":"{("view", "cart", "buy")[page % 3]}"}}'
        for second, user, page in zip(seconds, users, pages, strict=True)
    )
    return ("\n".join(lines) + "\n").encode()


def log_lines(rng: np.random.Generator, day: date, service: str, rows: int) -> bytes:
    """A service's log of one day."""
    start = datetime.combine(day, time())
    seconds = np.sort(rng.integers(0, 86_400, rows)).tolist()
    levels, words, durations = (
        rng.random(rows).tolist(),
        rng.integers(0, len(WORDS), rows).tolist(),
        rng.exponential(40, rows).tolist(),
    )
    lines = (
        f"{(start + timedelta(seconds=second)).isoformat()}Z {'ERROR' if level > 0.99 else 'INFO '} {service} "
        f"request to {WORDS[word]} took {duration:.1f} ms"
        for second, level, word, duration in zip(seconds, levels, words, durations, strict=True)
    )
    return ("\n".join(lines) + "\n").encode()


def picture_png(rng: np.random.Generator, side: int) -> bytes:
    """A square PNG: smooth colours with some grain."""
    ramp = np.linspace(0, 1, side)
    waves = np.sin(ramp[:, None, None] * rng.uniform(2, 9, 3) + ramp[None, :, None] * rng.uniform(2, 9, 3))
    grain = rng.integers(0, 12, (side, side, 3))
    pixels = ((waves + 1) * 120 + grain).astype(np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _png_part(b"IHDR", header)
        + _png_part(b"IDAT", zlib.compress(rows, 1))
        + _png_part(b"IEND", b"")
    )


def _png_part(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def notebook(rng: np.random.Generator, cells: int) -> bytes:
    """A Jupyter notebook."""
    texts = [" ".join(WORDS[n] for n in rng.integers(0, len(WORDS), 40).tolist()) for _ in range(cells)]
    body = {"cells": [{"cell_type": "markdown", "metadata": {}, "source": [text]} for text in texts]}
    return json.dumps({**body, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, indent=1).encode()


def page(rng: np.random.Generator, words: int) -> bytes:
    """A page of prose."""
    return (" ".join(WORDS[n] for n in rng.integers(0, len(WORDS), words).tolist()) + "\n").encode()
