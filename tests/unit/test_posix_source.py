"""Listing a POSIX tree: rows, order, shards, what cannot be read, and the probe."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from moraine.errors import SourceDenied, SourceError
from moraine.model.entry import Kind, State, join_path, row_key
from moraine.model.schemas import INVENTORY
from moraine.sources import posix_walk
from moraine.sources.base import ListShard
from moraine.sources.descent import KEPT, Descent
from moraine.sources.excludes import ExcludeRules
from moraine.sources.posix import PosixSource
from moraine.sources.posix_columns import to_batches
from moraine.sources.posix_rows import InventoryRows
from nasty import make_nasty_tree
from unprivileged import as_nobody, open_directory

ALL = ListShard("all")
AS_ROOT = os.geteuid() == 0
KINDS = {
    stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.DIRECTORY, stat.S_IFLNK: Kind.SYMLINK, stat.S_IFIFO: Kind.FIFO,
    stat.S_IFCHR: Kind.CHARACTER_DEVICE, stat.S_IFBLK: Kind.BLOCK_DEVICE, stat.S_IFSOCK: Kind.SOCKET,
}  # fmt: skip


@pytest.fixture(scope="module")
def nasty() -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="nasty-"))
    make_nasty_tree(root, as_root=AS_ROOT)
    yield root
    subprocess.run(["rm", "-rf", root], check=True)


def rows_of(source: PosixSource, shard: ListShard = ALL) -> list[dict[str, object]]:
    return [row for batch in source.list(shard) for row in batch.to_pylist()]


def paths_of(source: PosixSource, shard: ListShard = ALL) -> list[bytes]:
    return [join_path(row["dir"], row["name"]) for row in rows_of(source, shard)]  # type: ignore[arg-type]


def expected_rows(root: Path) -> list[dict[str, object]]:
    """The same listing by os.fwalk and lstat, sorted by the documented key."""
    rows = [_row(b"", b"", os.stat(root))]
    for path, directories, files, fd in os.fwalk(root):
        directory = os.fsencode(path)[len(os.fsencode(root)) + 1 :]
        for name in directories + files:
            rows.append(_row(directory, os.fsencode(name), os.lstat(name, dir_fd=fd)))
    return sorted(rows, key=lambda row: row_key(row["dir"], row["name"]))  # type: ignore[arg-type]


def _row(directory: bytes, name: bytes, found: os.stat_result) -> dict[str, object]:
    kind = KINDS[stat.S_IFMT(found.st_mode)]
    device = kind in (Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE)
    (mtime, mtime_ns), (ctime, ctime_ns) = divmod(found.st_mtime_ns, 10**9), divmod(found.st_ctime_ns, 10**9)
    values = (
        directory, name, kind, found.st_size if kind == Kind.FILE else 0, stat.S_IMODE(found.st_mode), found.st_uid,
        found.st_gid, mtime, mtime_ns, ctime, ctime_ns, found.st_ino, found.st_dev, found.st_nlink,
        found.st_rdev if device else 0, State.OK,
    )  # fmt: skip
    return dict(zip(INVENTORY.names, values, strict=True))


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    with open_directory() as root:
        yield root


def test_the_nasty_tree_is_listed_exactly(nasty: Path) -> None:
    found, expected = rows_of(PosixSource(nasty)), expected_rows(nasty)
    assert [(row["dir"], row["name"]) for row in found] == [(row["dir"], row["name"]) for row in expected]
    assert found == expected
    assert {row["kind"] for row in found} >= {Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.FIFO, Kind.SOCKET}


@pytest.mark.parametrize("batch", [7, 64, 1 << 16])
def test_any_size_of_batch_gives_the_same_rows(nasty: Path, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    """7 rows send most directories through the path for huge ones."""
    monkeypatch.setattr(posix_walk, "BATCH", batch)
    batches = list(PosixSource(nasty).list(ALL))
    assert [row for b in batches for row in b.to_pylist()] == expected_rows(nasty)
    for part in batches:
        assert part.schema.equals(INVENTORY)
        assert 0 < part.num_rows <= batch
        part.validate(full=True)


@pytest.mark.parametrize("want", [1, 2, 3, 8, 40, 1000])
@pytest.mark.parametrize("exclude", [(), ("many", "dir-a*/", "/deep/d/d/d")])
def test_shards_in_order_are_the_whole_listing(nasty: Path, want: int, exclude: tuple[str, ...]) -> None:
    source = PosixSource(nasty, ExcludeRules.build(exclude))
    shards = source.shards(want)
    assert len(shards) <= want
    assert len({shard.name for shard in shards}) == len(shards)
    assert want == 1 or len(shards) > want // 2 or want > 40
    assert [path for shard in shards for path in paths_of(source, shard)] == paths_of(source)


def test_what_appears_after_the_split_is_in_one_shard(tmp_path: Path) -> None:
    for n in range(20):
        (tmp_path / f"{n:02}" / "sub").mkdir(parents=True)
    source = PosixSource(tmp_path)
    shards = source.shards(6)
    for n in range(20):
        (tmp_path / f"{n:02}new" / "sub").mkdir(parents=True)
        (tmp_path / f"{n:02}" / "sub" / "new").mkdir()
    subprocess.run(["rm", "-r", *(tmp_path / os.fsdecode(shard.roots[0]) for shard in shards[1:])], check=True)
    assert [path for shard in shards for path in paths_of(source, shard)] == paths_of(source)


def test_a_shard_is_small_however_wide_its_directory(tmp_path: Path) -> None:
    for n in range(100):
        (tmp_path / f"{n:03}").mkdir()
    shards = PosixSource(tmp_path).shards(4)
    assert [(shard.roots, shard.stop_at) for shard in shards] == [
        ((b"",), (b"024",)), ((b"024",), (b"049",)), ((b"049",), (b"074",)), ((b"074",), ()),
    ]  # fmt: skip


def test_twenty_thousand_files_in_one_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posix_walk, "BATCH", 4096)
    base = os.fsencode(tmp_path) + b"/"
    names = [b"%d" % (n * 7919 % 1_000_003) + (b"\xff" if n % 3 else "\U00010000".encode()) for n in range(20_000)]
    for name in names:
        os.close(os.open(base + name, os.O_CREAT))
    for n in range(5):
        os.mkdir(base + b"directory-%d" % n)
        os.close(os.open(base + b"directory-%d/child" % n, os.O_CREAT))
    os.unlink(base + names.pop())
    directories = [b"directory-%d" % n for n in range(5)]
    below = [name + b"/child" for name in directories]
    assert paths_of(PosixSource(tmp_path)) == [b"", *sorted(names + directories), *below]


def test_levels_beyond_counting_with_few_descriptors(open_to_all: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each level has a second directory, so that the walk also has to find its way back up."""
    depth = 1500  # beyond the limit of recursion and of open files
    fd = os.open(open_to_all, os.O_RDONLY)
    for _ in range(depth):
        for name in ("d", "z"):
            os.mkdir(name, dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    monkeypatch.setattr(posix_walk, "BATCH", 500)
    before, most, rows = len(os.listdir("/proc/self/fd")), 0, 0
    for batch in PosixSource(open_to_all).list(ALL):
        most, rows = max(most, len(os.listdir("/proc/self/fd"))), rows + batch.num_rows
    assert rows == 1 + 2 * depth
    assert before < most <= before + KEPT + 3
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_an_ordinary_user_may_not_list_is_denied(open_to_all: Path) -> None:
    for name in ("closed", "names-only", "open"):
        (open_to_all / name / "sub").mkdir(parents=True)
        (open_to_all / name / "file").write_bytes(b"1")
    (open_to_all / "names-only" / "link").symlink_to("file")
    (open_to_all / "secret").write_bytes(b"22")
    (open_to_all / "secret").chmod(0)
    (open_to_all / "closed").chmod(0o311)
    (open_to_all / "names-only").chmod(0o444)

    def check() -> None:
        source = PosixSource(open_to_all)
        rows = {join_path(row["dir"], row["name"]): row for row in rows_of(source)}  # type: ignore[arg-type]
        denied = {path for path, row in rows.items() if row["state"] == State.DENIED}
        assert denied == {b"closed", b"names-only/file", b"names-only/link", b"names-only/sub"}
        assert not [path for path in rows if path.startswith((b"closed/", b"names-only/sub/"))]
        assert rows[b"closed"]["mode"] == 0o311
        assert rows[b"secret"]["size"] == 2
        kinds = {name: rows[b"names-only/" + name]["kind"] for name in (b"file", b"link", b"sub")}
        assert kinds == {b"file": Kind.FILE, b"link": Kind.SYMLINK, b"sub": Kind.DIRECTORY}
        for want in (2, 3, 50):  # the row of a directory and its content may be in different shards
            shards = source.shards(want)
            assert [row for shard in shards for row in rows_of(source, shard)] == list(rows.values())
        with source.reader() as reader, pytest.raises(SourceDenied) as caught:
            reader.open(b"", b"secret")
        assert caught.value.hint

    as_nobody(open_to_all, check)


def test_the_nasty_tree_as_an_ordinary_user(open_to_all: Path) -> None:
    def check() -> None:
        make_nasty_tree(open_to_all / "tree", as_root=False)
        assert rows_of(PosixSource(open_to_all / "tree")) == expected_rows(open_to_all / "tree")

    as_nobody(open_to_all, check)


def test_a_directory_that_cannot_be_read_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk error in the middle: said in the row while it is here, else an error; never rows that just miss."""
    for name in ("bad", "good"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    enter = Descent.enter

    def failing(self: Descent, directory: bytes) -> int:
        if directory == b"bad":
            raise OSError(5, "Input/output error")
        return enter(self, directory)

    monkeypatch.setattr(Descent, "enter", failing)
    states = {row["name"]: row["state"] for row in rows_of(PosixSource(tmp_path))}
    assert states == {b"": State.OK, b"bad": State.DENIED, b"good": State.OK, b"file": State.OK}
    monkeypatch.setattr(posix_walk, "BATCH", 2)
    with pytest.raises(SourceError, match="cannot list bad: input/output error") as caught:
        rows_of(PosixSource(tmp_path))
    assert caught.value.hint


def test_what_goes_during_the_walk_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posix_walk, "BATCH", 4)
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        for n in range(3):
            (tmp_path / name / str(n)).touch()
    batches = PosixSource(tmp_path).list(ALL)
    found = [next(batches)]
    subprocess.run(["rm", "-r", tmp_path / "b"], check=True)
    (tmp_path / "b").symlink_to("c")  # must not be followed
    subprocess.run(["rm", "-r", tmp_path / "c"], check=True)
    found += batches
    names = [row["dir"] + b"/" + row["name"] for batch in found for row in batch.to_pylist()]
    assert names == [b"/", b"/a", b"/b", b"/c", b"a/0", b"a/1", b"a/2"]


@pytest.mark.parametrize("count", [63, 64, 65, 127, 128, 129])
def test_a_directory_of_exactly_a_batch_is_in_order(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posix_walk, "BATCH", 64)
    for folder in ("a", "b"):  # one large directory right after another
        (tmp_path / folder).mkdir()
        for number in range(count):
            (tmp_path / folder / hashlib.md5(b"%d" % number).hexdigest()).mkdir()
            if number % 7 == 0:
                (tmp_path / folder / hashlib.md5(b"%d" % number).hexdigest() / "file").touch()
    assert rows_of(PosixSource(tmp_path)) == expected_rows(tmp_path)


def test_a_batch_of_which_all_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posix_walk, "BATCH", 4)
    (tmp_path / "a").mkdir()
    for number in range(12):
        (tmp_path / "a" / f"{number}.tmp").touch()
    (tmp_path / "b").touch()
    assert paths_of(PosixSource(tmp_path, ExcludeRules.build(["*.tmp"]))) == [b"", b"a", b"b"]
    (tmp_path / "a" / "kept").touch()
    assert paths_of(PosixSource(tmp_path, ExcludeRules.build(["*.tmp"]))) == [b"", b"a", b"b", b"a/kept"]


def test_a_large_directory_that_is_emptied_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posix_walk, "BATCH", 4)
    (tmp_path / "a").mkdir()
    for number in range(9):
        (tmp_path / "a" / str(number)).touch()
    large = posix_walk.Walk._large

    def emptied(walk: posix_walk.Walk, directory: bytes, fd: int) -> object:
        for name in os.listdir(fd):
            os.unlink(name, dir_fd=fd)
        return (yield from large(walk, directory, fd))

    monkeypatch.setattr(posix_walk.Walk, "_large", emptied)
    assert paths_of(PosixSource(tmp_path)) == [b"", b"a"]


def test_an_entry_that_goes_before_its_stat_is_left_out(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).touch()
    fd = os.open(tmp_path, os.O_RDONLY)
    with os.scandir(fd) as scan:
        entries = sorted(scan, key=lambda entry: entry.name)
    (tmp_path / "a").unlink()
    rows = InventoryRows()
    assert rows.add(b"x", entries) == []
    (batch,) = to_batches([rows.take()], 2)
    assert batch.select(["dir", "name"]).to_pylist() == [{"dir": b"x", "name": b"b"}]
    os.close(fd)


class _Entry:
    """An entry with numbers that no file system here gives."""

    name = "odd"

    def stat(self, *, follow_symlinks: bool) -> os.stat_result:
        assert not follow_symlinks
        inode, device = (1 << 64) - 5, (1 << 63) + 9
        numbers = (0o100644, inode, device, 1, 0xFFFFFFFE, 7, 42, 0, 253_402_300_799, -(1 << 40))
        in_ns = (0, 253_402_300_799 * 10**9 + 999_999_999, -(1 << 40) * 10**9 + 1)
        return os.stat_result((*numbers, 0.0, 0.0, 0.0, *in_ns, 4096, 8, 0))


def test_numbers_of_64_bits_and_the_year_9999_are_exact() -> None:
    rows = InventoryRows()
    rows.add(b"", [_Entry()])  # type: ignore[list-item]
    (batch,) = to_batches([rows.take()], 1)
    (row,) = batch.to_pylist()
    assert (row["inode"], row["device"], row["uid"]) == ((1 << 64) - 5, (1 << 63) + 9, 0xFFFFFFFE)
    assert (row["mtime"], row["mtime_ns"]) == (253_402_300_799, 999_999_999)
    assert (row["ctime"], row["ctime_ns"]) == (-(1 << 40), 1)


def test_other_file_systems_are_listed_but_not_entered() -> None:
    if os.stat("/dev").st_dev == os.stat("/dev/pts").st_dev:
        pytest.skip("no second file system below /dev")
    rules = ExcludeRules.build(["/shm", "/mqueue", "/hugepages"])  # who knows what is there
    source = PosixSource("/dev", rules, one_file_system=True)
    paths = paths_of(source)
    assert b"pts" in paths
    assert not [path for path in paths if path.startswith(b"pts/")]
    assert b"pts/ptmx" in paths_of(PosixSource("/dev", rules))
    assert source.explain("pts").included
    assert source.explain("pts/ptmx").rule == "one_file_system"
    assert [path for shard in source.shards(4) for path in paths_of(source, shard)] == paths


def test_a_tree_of_the_kernel_is_listed_without_end_or_error() -> None:
    assert b"status" in paths_of(PosixSource("/proc/self"))


def test_the_root_may_have_any_name(open_to_all: Path) -> None:
    root = os.fsencode(open_to_all) + b"/\xff\n"
    os.mkdir(root)
    source = PosixSource(os.fsdecode(root))
    assert paths_of(source) == [b""]
    assert source.probe().root.endswith("/\\xff\\n")
    assert isinstance(next(iter(source.list(ALL))), pa.RecordBatch)
