"""Requests under way in a few threads, within bounds of number and bytes. Answers are taken in the caller's thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
U = TypeVar("U")

THREADS = 16
_WAITING = 4 * THREADS
_BYTES = 128 << 20


class _Under(NamedTuple):
    """A request under way."""

    future: Future[Any]
    size: int
    done: Callable[[Any], None]


class Sending:
    """Sends; one caller's thread. What a request raises is raised when its answer is taken."""

    def __init__(self) -> None:
        """Start no thread before there is work."""
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="s3")
        self._under: deque[_Under] = deque()
        self._bytes = 0

    def send(self, size: int, work: Callable[[], T], done: Callable[[T], None]) -> None:
        """Do `work`, which holds `size` bytes, in a thread; then, in some later call, `done` with its result."""
        while self._under and (self._bytes + size > _BYTES or len(self._under) >= _WAITING):
            self._take()
        self._bytes += size
        self._under.append(_Under(self._pool.submit(work), size, done))

    def each(self, work: Callable[[T], U], items: list[T]) -> list[U]:
        """The results for all items, in order."""
        return list(self._pool.map(work, items))

    def drain(self) -> None:
        """Take all answers, also of what they send in their turn."""
        while self._under:
            self._take()

    def close(self) -> None:
        """End; what is under way is waited for, its answers are dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._under.clear()

    def _take(self) -> None:
        first = self._under.popleft()
        self._bytes -= first.size
        first.done(first.future.result())
