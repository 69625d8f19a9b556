"""Manifests over many nights against a dict: shards, deltas, rewriting, subtrees."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from moraine.errors import DamagedObject, MissingObject
from moraine.model.entry import Op
from moraine.model.snapshot import Snapshot, Totals
from moraine.model.window import Window
from moraine.repository import manifest as module
from moraine.repository.keys import Keyring
from moraine.repository.manifest import DELTA, Manifest, ManifestWriter, Written, shard_rows
from moraine.repository.tables import read_table, write_table
from moraine.stores.memory import MemoryStore
from rows import manifest, paths

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def snapshot(written: Written, rows: int) -> Snapshot:
    """A snapshot of what was written, through its stored form."""
    made = Snapshot(
        id="S", session="X", run="r", attempt=1, policy="p", policy_digest="", source="posix:/", host="h",
        window=Window(NOW, NOW), captured_at=NOW, finished_at=NOW, late=False, parent=None, totals=Totals(files=rows),
        shards=written.shards, deltas=written.deltas, sequence=written.sequence,
    )  # fmt: skip
    return Snapshot.from_dict(made.to_dict())


class Tree:
    """A repository's manifests for one tree that changes from night to night."""

    def __init__(self, keyring: Keyring) -> None:
        self.store = MemoryStore()
        self.keyring = keyring
        self.model: dict[bytes, int] = {}
        self.head: Snapshot | None = None
        self._numbers = itertools.count()

    def night(self, changes: dict[bytes, int | None]) -> Written:
        """Commit changes: path → new size, or None for deleted."""
        rows = delta({p: s for p, s in changes.items() if s is not None or p in self.model})
        for path, size in changes.items():
            if size is None:
                self.model.pop(path, None)
            else:
                self.model[path] = size
        writer = ManifestWriter(
            self.store, self.keyring, lambda kind: f"manifests/{next(self._numbers)}.{kind}", len(self.model)
        )
        if self.head is None:
            written = writer.write_first([rows])
        else:
            written = writer.write_next(self.manifest(), self.head, [rows] if rows.num_rows else [])
        self.head = snapshot(written, len(self.model))
        return written

    def manifest(self) -> Manifest:
        assert self.head
        return Manifest(self.store, self.keyring, self.head)

    def check(self) -> None:
        table = self.manifest().table(["dir", "name", "size"])
        assert dict(zip(paths(table), table["size"].to_pylist(), strict=True)) == self.model
        assert table.num_rows == len(self.model)


def delta(changes: dict[bytes, int | None]) -> pa.Table:
    """DELTA rows."""
    table = manifest({path: {"size": size or 0} for path, size in changes.items()})
    ops = [int(Op.MODIFIED) if changes[path] is not None else int(Op.DELETED) for path in paths(table)]
    return table.append_column(DELTA.field("op"), pa.array(ops, pa.uint8()))


@pytest.fixture(params=["encrypted", "plain"])
def tree(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Tree:
    monkeypatch.setattr(module, "_SMALLEST_SHARD", 64)
    seed = random.Random(1)
    return Tree(Keyring.create(seed.randbytes) if request.param == "encrypted" else Keyring.plain("id"))


def test_two_hundred_nights_equal_a_dict(tree: Tree) -> None:
    rng = random.Random(7)
    names = [b"d%02d/f%02d" % (d, f) for d in range(40) for f in range(30)]
    tree.night(dict.fromkeys(names[:700], 1))
    tree.check()
    for night in range(200):
        if night % 23 == 11:  # a disaster: a range is emptied
            start = rng.randrange(1000)
            changes: dict[bytes, int | None] = dict.fromkeys(names[start : start + 400])
        elif night % 31 == 5:  # and once everything
            changes = dict.fromkeys(list(tree.model))
        else:
            picked = rng.sample(names, rng.choice([0, 1, 5, 30, 200]))
            changes = {name: rng.choice([None, rng.randrange(99), night]) for name in picked}
        tree.night(changes)
        tree.check()
        assert tree.head and len({d.sequence for d in tree.head.deltas}) <= module.MAX_DELTAS + 1


def test_an_unchanged_night_writes_nothing_and_a_small_one_little(tree: Tree) -> None:
    tree.night({b"d%02d/f%02d" % (d, f): 1 for d in range(40) for f in range(30)})
    assert tree.head
    before = tree.head.shards
    assert tree.night({}).bytes == 0
    assert tree.head.shards == before
    written = tree.night({b"d07/f07": 9})
    assert [s.key for s in written.shards] == [s.key for s in before]  # reused
    assert len(written.deltas) == 1 and written.deltas[0].rows == 1


def test_bytes_written_follow_the_change_and_not_the_tree() -> None:
    """A hundred scattered changes a night for fifty nights: bytes written stay within a factor over tree sizes."""
    totals: list[int] = []
    for size in (20_000, 80_000):
        tree = Tree(Keyring.plain("id"))
        tree.night({b"d%03d/f%04d" % (n // 100, n % 100): 1 for n in range(size)})
        rng = random.Random(3)
        written = 0
        for night in range(20):
            picked = rng.sample(range(size), 100)
            written += tree.night({b"d%03d/f%04d" % (n // 100, n % 100): night + 2 for n in picked}).bytes
        tree.check()
        totals.append(written)
    assert totals[1] < 2 * totals[0]


def test_subtrees(tree: Tree) -> None:
    names = [b"", b"a", b"a/b", b"a/b/c", b"a/b-c", b"a/bc", b"a-b", b"a-b/x", b"b"]
    tree.night(dict.fromkeys(names, 1) | {b"z/%03d" % n: 1 for n in range(300)})
    tree.night({b"a/b/new": 2, b"a/bc": None})
    found = {
        under: paths(tree.manifest().table(["dir", "name"], under=under)) for under in (b"a/b", b"a", b"b", b"", b"no")
    }
    assert found[b"a/b"] == [b"a/b", b"a/b/c", b"a/b/new"]
    assert found[b"a"] == [b"a", b"a/b", b"a/b-c", b"a/b/c", b"a/b/new"]
    assert found[b"b"] == [b"b"]
    assert found[b"no"] == []
    assert len(found[b""]) == len(tree.model)


def test_a_damaged_swapped_or_missing_shard_is_told(tree: Tree) -> None:
    tree.night({b"f%03d" % n: 1 for n in range(300)})
    assert tree.head and len(tree.head.shards) > 1
    first, second = tree.head.shards[:2]
    whole, other = tree.store.get(first.key), tree.store.get(second.key)

    def replaced(data: bytes) -> None:
        tree.store.delete(first.key)
        tree.store.put(first.key, data)

    for place in range(0, len(whole), max(1, len(whole) // 60)):
        replaced(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DamagedObject, match=first.key):
            tree.manifest().table()
    for wrong in (other, whole[:-1], b""):
        replaced(wrong)
        with pytest.raises(DamagedObject, match=first.key):
            tree.manifest().table()
    tree.store.delete(first.key)
    with pytest.raises(MissingObject, match=first.key):
        tree.manifest().table()


def test_a_swapped_shard_does_not_even_open_when_its_digest_is_forged(tree: Tree) -> None:
    if not tree.keyring.encrypted:
        pytest.skip("a plain repository guards from accidents only")
    tree.night({b"f%03d" % n: 1 for n in range(300)})
    assert tree.head
    first, second = tree.head.shards[:2]
    tree.store.delete(first.key)
    tree.store.put(first.key, tree.store.get(second.key))
    forged = replace(tree.head, shards=(replace(first, digest=second.digest), *tree.head.shards[1:]))
    with pytest.raises(DamagedObject, match="does not open"):
        Manifest(tree.store, tree.keyring, forged).table()


def test_shard_sizes_grow_with_the_tree() -> None:
    assert [shard_rows(n) for n in (1, 50_000, 10_000_000, 100_000_000)] == [32768, 32768, 65536, 262144]


def test_a_stored_table_names_only_the_directories_of_its_rows() -> None:
    keyring = Keyring.create(lambda size: b"\7" * size)
    whole = manifest({f"{number:05d}/file".encode(): {} for number in range(2000)})
    few = whole.filter(pa.array([number % 1000 == 5 for number in range(whole.num_rows)]))
    data = write_table(few, key="manifests/K.parquet", keyring=keyring)
    found = read_table(data, key="manifests/K.parquet", keyring=keyring)
    assert paths(found) == paths(few)
    assert sorted(found["dir"].combine_chunks().dictionary.to_pylist()) == sorted(set(few["dir"].to_pylist()))
