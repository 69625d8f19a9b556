"""What a reader of chunks fetches: of a store that is near each request by itself, from far away large ranges ahead.

A reader opens requests one by one, so they are small. Where every one would wait for a network, neighbours are
fetched together, and several such ranges are on their way while earlier ones are opened.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

from moraine.repository.read_order import LARGEST_GAP, Request, Wanted, requests
from moraine.stores.ahead import NEAR, at_once, begin
from moraine.stores.base import Store

_LARGEST = 8 << 20  # bytes of one range, unless one request has more
_AHEAD = 16 << 20  # bytes on their way; besides, one range is being opened

Load = Callable[[], memoryview]


def fetched(store: Store, wanted: Wanted, most: int) -> Iterator[tuple[Request, Load]]:
    """The requests for all wanted rows in order, each with what gives its bytes; none costs over `most`, if it can."""
    if at_once(store) <= NEAR:
        for request in requests(wanted, most):
            yield request, partial(_get, store, wanted, [request])
        return
    waiting: deque[tuple[list[Request], Load]] = deque()
    size = 0
    for part in _ranges(requests(wanted, most)):
        while waiting and size + _length(part) > _AHEAD:
            size -= _length(waiting[0][0])
            yield from _split(*waiting.popleft())
        waiting.append((part, begin(store, partial(_get, store, wanted, part))))
        size += _length(part)
    while waiting:
        yield from _split(*waiting.popleft())


def _ranges(pieces: Iterator[Request]) -> Iterator[list[Request]]:
    """Neighbours of one pack together."""
    part: list[Request] = []
    for piece in pieces:
        if part and not (
            piece.pack == part[0].pack
            and 0 <= piece.start - (part[-1].start + part[-1].length) <= LARGEST_GAP
            and _length([part[0], piece]) <= _LARGEST
        ):
            yield part
            part = []
        part.append(piece)
    if part:
        yield part


def _split(part: list[Request], load: Load) -> Iterator[tuple[Request, Load]]:
    for piece in part:
        yield piece, partial(_cut, load, piece.start - part[0].start, piece.length)


def _cut(load: Load, start: int, length: int) -> memoryview:
    return load()[start : start + length]


def _get(store: Store, wanted: Wanted, part: list[Request]) -> memoryview:
    return memoryview(store.get_range(wanted.packs[part[0].pack], part[0].start, _length(part)))


def _length(part: list[Request]) -> int:
    return part[-1].start + part[-1].length - part[0].start
