"""A small lake with a file of every kind that data checks know, backed up and restored for tests."""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import orc

from moraine.model.policy import Policy
from moraine.proof.data_sets import CheckResult, DataSet, DataSetVerdict, plan_data_sets, validate_data_set
from moraine.repository.repository import Repository
from moraine.stores.memory import MemoryStore
from night import Clock, Night, make_policy, make_repository, open_repository
from restored import restore


def orders(rows: int, start: int = 0, **columns: pa.Array) -> pa.Table:
    ids = range(start, start + rows)
    made = {"id": ids, "price": [float(n % 90) for n in ids], "day": [date(2026, 11, 21)] * rows} | columns
    return pa.table(made)


def png(width: int = 8) -> bytes:
    """A PNG of one colour."""
    picture = zlib.compress(b"".join(b"\0" + b"\x10\x20\x30" * width for _ in range(width)))
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, width, 8, 2, 0, 0, 0)), (b"IDAT", picture), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


GIF = bytes.fromhex("47494638396101000100800000ff0000ffffff2c00000000010001000002024401003b")
JPEG = bytes.fromhex(
    "ffd8ffe000104a46494600010100000100010000ffdb004300" + "01" * 64
    + "ffc0000b080001000101011100ffc4001400010000000000000000000000000000000a"
    + "ffc40014100100000000000000000000000000000000"
    + "ffda0008010100003f00d2cf20ffd9"
)  # fmt: skip


def make_lake(root: Path) -> Path:
    for part in range(4):
        folder = root / f"orders/day=2026-11-{part + 1:02}"
        folder.mkdir(parents=True)
        pq.write_table(orders(5000, part * 5000), folder / "part-0.parquet")
        (folder / "_SUCCESS").touch()
    (root / "orc").mkdir()
    orc.write_table(orders(100), root / "orc/a.orc")
    (root / "csv").mkdir()
    for number in range(3):
        lines = [f"{n};Ünit {n};{n / 7:.3f}\n" for n in range(200)]
        (root / f"csv/{number}.csv").write_text("id;name;value\n" + "".join(lines))
    (root / "events").mkdir()
    (root / "events/a.jsonl").write_text("".join(json.dumps({"n": n, "who": "ä"}) + "\n" for n in range(300)))
    with closing(sqlite3.connect(root / "catalog.sqlite")) as database, database:
        database.execute("create table product (id integer primary key, name text)")
        database.execute("create index by_name on product (name)")
        database.executemany("insert into product values (?, ?)", [(n, f"product {n}" * 9) for n in range(3000)])
    _make_containers(root / "packed")
    (root / "images").mkdir()
    for name, data in {"a.png": png(), "b.PNG": png(64), "c.jpg": JPEG, "d.gif": GIF}.items():
        (root / "images" / name).write_bytes(data)
    (root / "readme").write_text("nothing that is checked by kind")
    return root


def _make_containers(folder: Path) -> None:
    folder.mkdir()
    (folder / "log.gz").write_bytes(gzip.compress(b"line\n" * 9000))
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as container:
        container.writestr("one", b"1" * 9000)
        container.writestr("two", b"2" * 9000)
    for name, mode in (("b.tar", "w"), ("c.tar.gz", "w:gz")):
        with tarfile.open(folder / name, mode) as container:
            for number in range(3):
                info = tarfile.TarInfo(f"member-{number}")
                info.size = 2000
                container.addfile(info, io.BytesIO(bytes([65 + number]) * 2000))


class Lake:
    """A lake, its repository, and what was restored."""

    def __init__(self, folder: Path, **policy: Any) -> None:
        self.folder = folder
        self.root = make_lake(folder / "lake")
        self.clock = Clock()
        self.clock.advance(days=400)
        self.store = MemoryStore()
        make_repository(self.store, self.clock)
        self.policy: Policy = make_policy(self.root, **policy)
        self.nights = 0

    @property
    def repository(self) -> Repository:
        return open_repository(self.store)

    def back_up(self) -> str:
        self.nights += 1
        self.clock.advance(days=1)
        night = Night(lambda: self.store, self.root, self.policy, self.clock, run_id=f"dag/{self.nights}")
        return night.all().snapshot

    def plan(self, snapshot: str = "latest", **policy: Any) -> dict[str, DataSet]:
        rules = make_policy(self.root, **policy) if policy else self.policy
        repository = self.repository
        found = plan_data_sets(repository, repository.snapshot(snapshot), rules)
        # as a task hands them to the next: through JSON
        return {one.name: DataSet.from_dict(json.loads(json.dumps(one.to_dict()))) for one in found}

    def restore(self, name: str = "restored", snapshot: str = "latest") -> Path:
        assert restore(self.repository, snapshot, self.folder / name).exit_code == 0
        return self.folder / name


def judge(lake: Lake, root: Path, name: str, tmp_path: Path, sampled: bool = False, **policy: Any) -> DataSetVerdict:
    data_set = lake.plan(**policy)[name]
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    chosen = data_set.sampled() if sampled else data_set
    verdict = validate_data_set(root, chosen, scratch=scratch, docs=None, repository=lake.repository)
    assert list(scratch.iterdir()) == []
    json.dumps(verdict.to_dict())
    return verdict


def failed(verdict: DataSetVerdict) -> list[CheckResult]:
    return [check for check in verdict.checks if not check.passed]


def damage(path: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def do(root: Path) -> None:
        (root / path).write_bytes(change((root / path).read_bytes()))

    return do


def flip(at: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
