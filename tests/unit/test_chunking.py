"""Cuts: fixed by test vectors, independent of how the bytes arrive, chosen by first bytes alone."""

from __future__ import annotations

import itertools

import pytest
from blake3 import blake3

from moraine.engine.chunking import HEAD, Chunking, ContentCutter, Cutter, FixedCutter

KIB = 1 << 10


def noise(size: int, seed: bytes = b"noise") -> bytes:
    """Bytes that are the same everywhere: BLAKE3's extendable output."""
    return blake3(seed).digest(length=size)


def make(seed: int = 0x1234_5678_9ABC_DEF0, span: int = 1 << 20) -> ContentCutter:
    return ContentCutter(minimum=16 * KIB, average=64 * KIB, maximum=256 * KIB, seed=seed, span=span)


def cut_in_steps(cutter: Cutter, data: bytes, step: int) -> list[int]:
    """Cut as a reader does: gather `step` bytes, cut, carry the rest over."""
    ends: list[int] = []
    held, base = b"", 0
    for start in range(0, len(data), step):
        held += data[start : start + step]
        found = cutter.cut(memoryview(held), start + step >= len(data))
        ends += [base + end for end in found]
        done = found[-1] if found else 0
        base, held = base + done, held[done:]
    assert not held
    return ends


def test_vectors() -> None:
    """Changing these cuts would end dedup against every repository there is."""
    data = memoryview(noise(1 << 20))
    assert make().cut(data, True)[:8] == [130288, 218128, 312659, 409382, 483194, 567302, 720449, 737079]
    assert make(seed=0).cut(data, True)[:8] == [74076, 175602, 208180, 256606, 339741, 381516, 421805, 524523]


@pytest.mark.parametrize("step", [256 * KIB, 300_001, 777_777, 5 << 20])
def test_cuts_do_not_depend_on_how_bytes_arrive(step: int) -> None:
    data = noise(4 << 20) + bytes(3 << 20) + noise(1 << 20, b"more") + b"tail"
    assert cut_in_steps(make(), data, step) == make().cut(memoryview(data), True)


def test_sizes_stay_in_bounds() -> None:
    ends = make().cut(memoryview(noise(8 << 20)), True)
    sizes = [end - start for start, end in itertools.pairwise([0, *ends])]
    assert ends[-1] == 8 << 20
    assert min(sizes[:-1]) >= 16 * KIB
    assert max(sizes) <= 256 * KIB
    assert 48 * KIB < sum(sizes) / len(sizes) < 112 * KIB


def test_bytes_without_any_cut_are_cut_at_the_longest() -> None:
    assert make().cut(memoryview(bytes(600 * KIB)), False) == [256 * KIB, 512 * KIB]
    assert make().cut(memoryview(bytes(512 * KIB)), False) == [256 * KIB, 512 * KIB]


def test_the_end_of_the_data_is_no_cut_before_the_file_ends() -> None:
    data = memoryview(noise(40 * KIB, b"no cut inside 0"))
    assert make().cut(data, True) == [40 * KIB]
    assert make().cut(data, False) == []
    assert make().cut(memoryview(b""), True) == []


def test_an_insertion_moves_few_cuts() -> None:
    data = noise(8 << 20)
    cuts = set(make().cut(memoryview(data), True))
    moved = {end - 1003 for end in make().cut(memoryview(data[:100] + bytes(1003) + data[100:]), True)}
    assert len(cuts & moved) > len(cuts) * 0.9


def test_the_seed_moves_the_cuts() -> None:
    data = memoryview(noise(4 << 20))
    first, second = make(seed=1).cut(data, True), make(seed=2).cut(data, True)
    assert len(set(first) & set(second)) < len(first) // 4


def test_a_seed_of_64_bits_is_taken() -> None:
    assert make(seed=(1 << 64) - 1).cut(memoryview(noise(1 << 20)), True)


def test_fixed_cuts() -> None:
    cutter = FixedCutter(100, span=350)
    assert cutter.span == 300
    assert cutter.cut(memoryview(bytes(250)), False) == [100, 200]
    assert cutter.cut(memoryview(bytes(250)), True) == [100, 200, 250]
    assert cutter.cut(memoryview(bytes(200)), True) == [100, 200]
    assert cutter.cut(memoryview(b""), True) == []
    assert FixedCutter(100, span=50).span == 100
    assert cut_in_steps(cutter, bytes(1234), 77) == [*range(100, 1201, 100), 1234]


@pytest.mark.parametrize(
    ("head", "size"),
    [
        (b"PAR1\x15\x04", 500),
        (b"ORC\n", 500),
        (b"PK\x03\x04...", 500),
        (b"\x1f\x8b\x08", 500),
        (b"\x28\xb5\x2f\xfd", 500),
        (b"\xff\xd8\xff\xe0", 500),
        (b"\x89PNG\r\n\x1a\n", 500),
        (b"\x00\x00\x00\x20ftypisom", 500),
        (b"QFI\xfb", 200),
        (b"KDMV", 200),
        (bytes(510) + b"\x55\xaa" + bytes(8), 200),
        (bytes(512) + b"EFI PART", 200),
    ],
)
def test_first_bytes_choose_a_fixed_size(head: bytes, size: int) -> None:
    cutter = small_chunking().choose(memoryview(head + bytes(600)))
    assert cutter.cut(memoryview(bytes(1000)), True) == list(range(size, 1001, size))


@pytest.mark.parametrize("head", [b"", b"P", b"PAR2", b"%PDF-1.7", b"text " * 200, bytes(HEAD), b"xPAR1"])
def test_other_files_are_cut_by_content(head: bytes) -> None:
    assert isinstance(small_chunking().choose(memoryview(head)), ContentCutter)


def test_the_span_holds_the_longest_chunk_of_any_cutter() -> None:
    assert small_chunking(span=4 * KIB).span == 4 * KIB
    assert small_chunking(fixed_lake=9 * KIB).span == 9 * KIB


def small_chunking(span: int = 4 * KIB, fixed_lake: int = 500) -> Chunking:
    return Chunking(minimum=256, average=1024, maximum=4096, fixed_disk=200, fixed_lake=fixed_lake, seed=7, span=span)
