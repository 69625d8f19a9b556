"""Rows and columns of table files as a night records them: read from footers that go by, carried over, shown."""

from __future__ import annotations

import io
import itertools
import os
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import orc

from moraine.engine.footers import TAIL, Footer, Shape, read_footer
from moraine.model.schemas import MANIFEST
from moraine.report.query import query
from moraine.repository.repository import Repository
from moraine.stores.local import LocalStore
from moraine.stores.memory import MemoryStore
from night import Clock, Night, make_policy, make_repository, open_repository

TABLE = pa.table({"id": range(1000), "price": pa.array([1.5] * 1000, pa.float32()), "who": ["ä"] * 1000})
COLUMNS = (("id", "int64"), ("price", "float"), ("who", "string"))


def parquet(table: pa.Table = TABLE, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def orc_bytes() -> bytes:
    sink = io.BytesIO()
    orc.write_table(TABLE, sink)
    return sink.getvalue()


@pytest.mark.parametrize(("name", "data"), [(b"a.parquet", parquet()), (b"part-0", parquet()), (b"a.ORC", orc_bytes())])
def test_a_footer_tells_rows_and_columns(name: bytes, data: bytes) -> None:
    facts = read_footer(name, data)
    assert facts and facts.rows == 1000
    assert Shape.of_text(facts.shape).columns == COLUMNS


LARGE = pa.table({"noise": [os.urandom(1 << 20) for _ in range(9)]})
FORMS = {"parquet": parquet(), "orc": orc_bytes(), "large.parquet": parquet(LARGE, compression="none")}


def go_by(footer: Footer, data: bytes, ends: list[int]) -> Footer:
    for begin, end in itertools.pairwise([0, *ends]):
        footer.take(memoryview(data)[begin:end])
    return footer


@pytest.mark.parametrize("piece", [4, 7, 500, TAIL])
@pytest.mark.parametrize("form", ["parquet", "orc"])
def test_a_footer_that_goes_by_in_pieces_is_the_same(form: str, piece: int) -> None:
    data, name = FORMS[form], f"a.{form}".encode()
    footer = go_by(Footer(name, len(data)), data, [*range(piece, len(data), piece), len(data)])
    assert footer.facts() == read_footer(name, data)


@pytest.mark.parametrize("last", [1, 7, 8, 100, TAIL - 1, TAIL, TAIL + 1])
def test_a_footer_may_lie_in_several_pieces_of_a_large_file(last: int) -> None:
    data = FORMS["large.parquet"]
    footer = go_by(Footer(b"a.parquet", len(data)), data, [1 << 20, len(data) - last, len(data)])
    assert footer.facts() == read_footer(b"a.parquet", data)


def test_what_goes_by_is_not_copied() -> None:
    data = FORMS["large.parquet"]
    footer = Footer(b"a.parquet", len(data))
    tracemalloc.start()
    try:
        go_by(footer, data, [5 << 20, len(data)])
        assert tracemalloc.get_traced_memory()[1] < 1 << 16
    finally:
        tracemalloc.stop()
    assert footer.facts() == read_footer(b"a.parquet", data)


@pytest.mark.parametrize(("missing", "rows"), [(0, 1000), (1, None)])
def test_a_footer_behind_what_was_skipped_is_read_if_it_went_by_whole(missing: int, rows: int | None) -> None:
    data = parquet()
    begin = len(data) - int.from_bytes(data[-8:-4], "little") - 8 + missing
    footer = Footer(b"a.parquet", len(data))
    footer.take(memoryview(data)[:4])
    footer.skip(begin - 4)
    footer.take(memoryview(data)[begin:])
    facts = footer.facts()
    assert facts and facts.rows == rows
    assert rows or "behind its footer" in (Shape.of_text(facts.shape).unread or "")


def test_a_file_that_was_cut_short_is_no_broken_table() -> None:
    data = parquet()
    footer = Footer(b"a.parquet", len(data) + 1)
    footer.take(memoryview(data))
    facts = footer.facts()
    assert facts and facts.rows is None
    assert Shape.of_text(facts.shape).problem is None
    assert "cut short" in (Shape.of_text(facts.shape).unread or "")
    unnamed = Footer(b"part-0", len(data) + 1)
    unnamed.take(memoryview(data))
    assert unnamed.facts() is None


SOUND = parquet()
BROKEN = [
    (b"a.parquet", SOUND[:-20], "cut off"),
    (b"a.parquet", SOUND[: len(SOUND) // 2], "cut off"),
    (b"a.parquet", b"", "empty"),
    (b"a.parquet", b"hello, this is text", "does not begin with PAR1"),
    (b"a.parquet", b"PAR1" + (1 << 30).to_bytes(4, "little") + b"PAR1", "claims 1,073,741,824 bytes"),
    (b"a.parquet", b"PAR1" + b"\xff" * 100 + (100).to_bytes(4, "little") + b"PAR1", "does not open"),
    (b"a.parquet", b"PAR1" + SOUND[400:], "columns end at byte"),
    (b"a.orc", orc_bytes()[:-3], "does not open"),
    (b"a.orc", b"text", "does not begin with ORC"),
]


@pytest.mark.parametrize(("name", "data", "why"), BROKEN)
def test_a_footer_that_does_not_open_is_said(name: bytes, data: bytes, why: str) -> None:
    facts = read_footer(name, data)
    assert facts and facts.rows is None
    assert why in (Shape.of_text(facts.shape).problem or "")
    assert read_footer(b"unnamed", data) is None  # what only looks like one may be anything


def test_a_footer_nobody_can_read_here_is_no_problem() -> None:
    facts = read_footer(b"a.parquet", b"PAR1" + bytes(TAIL + 100) + (TAIL + 50).to_bytes(4, "little") + b"PAR1")
    assert facts and facts.rows is None
    shape = Shape.of_text(facts.shape)
    assert shape.problem is None and shape.unread


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    root = tmp_path / "lake"
    (root / "orders").mkdir(parents=True)
    (root / "orders/a.parquet").write_bytes(parquet())
    big = pa.table({"noise": [os.urandom(1 << 20) for _ in range(40)]})
    (root / "orders/big.parquet").write_bytes(parquet(big, compression="none"))
    (root / "orders/_SUCCESS").write_bytes(b"")
    return root


def run_night(store: MemoryStore, lake: Path, clock: Clock, number: int) -> Night:
    night = Night(lambda: store, lake, make_policy(lake), clock, run_id=f"dag/{number}")
    night.all()
    return night


def rows(store: MemoryStore) -> dict[bytes, Any]:
    repository = open_repository(store)
    table = repository.manifest(repository.snapshot("latest")).table(["name", "table_rows", "table_shape"])
    return {row["name"]: (row["table_rows"], row["table_shape"]) for row in table.to_pylist()}


def test_a_night_records_them_and_the_next_carries_them_over_unread(lake: Path, tmp_path: Path) -> None:
    store, clock = MemoryStore(), Clock()
    make_repository(store, clock)
    clock.advance(days=400)
    assert run_night(store, lake, clock, 1).committed.notes == ()  # type: ignore[union-attr]
    first = rows(store)
    assert {name: found[0] for name, found in first.items()} == {
        b"": None, b"orders": None, b"a.parquet": 1000, b"big.parquet": 40, b"_SUCCESS": None,
    }  # fmt: skip
    assert Shape.of_text(first[b"big.parquet"][1]).columns == (("noise", "binary"),)
    (lake / "orders/b.parquet").write_bytes(parquet(TABLE.slice(0, 7)))
    os.chmod(lake / "orders/big.parquet", 0o600)  # its row changes, its content does not
    assert run_night(store, lake, clock, 2).committed.changed == 3  # type: ignore[union-attr]
    assert rows(store) == first | {b"b.parquet": (7, first[b"a.parquet"][1])}
    total = "select sum(table_rows) from files where snapshot = (select max(id) from snapshots)"
    with query(open_repository(store), total, scratch=tmp_path) as answer:
        assert list(answer.batches) == [[(1047,)]]


def test_a_table_file_that_is_broken_at_the_source_is_a_warning_of_that_night(lake: Path) -> None:
    store, clock = MemoryStore(), Clock()
    make_repository(store, clock)
    clock.advance(days=400)
    for number in range(5):
        (lake / f"orders/cut-{number}.parquet").write_bytes(SOUND[:-30])
    committed = run_night(store, lake, clock, 1).committed
    assert committed
    (note,) = committed.notes
    assert note.startswith("5 table files were broken at the source already: orders/cut-0.parquet: it is cut off")
    assert note.endswith("; …") and committed.exit_code == 0
    assert rows(store)[b"cut-3.parquet"][0] is None


def test_a_repository_of_before_they_were_recorded_goes_on(lake: Path, tmp_path: Path) -> None:
    golden = Path(__file__).parent.parent / "golden/v1/plain"
    shutil.copytree(golden, tmp_path / "repository")
    policy = make_policy(lake, "golden")
    store, clock = LocalStore(str(tmp_path / "repository")), Clock()
    clock.advance(days=400)
    repository = Repository.open(store, lambda: b"", entropy=os.urandom)
    before = repository.manifest(repository.snapshot("latest", "golden")).table()
    assert before.schema == MANIFEST and before["table_shape"].null_count == len(before)
    committed = Night(lambda: store, lake, policy, clock).all()
    repository = Repository.open(store, lambda: b"", entropy=os.urandom)
    snapshot = repository.snapshot(committed.snapshot)
    assert snapshot.parent and snapshot.deltas
    after = repository.manifest(snapshot).table(["name", "table_rows"])
    assert sorted(row["table_rows"] or 0 for row in after.to_pylist())[-2:] == [40, 1000]
