"""How many requests a store gets at once: the one place where that is decided.

One more after a whole round without trouble, half as many after a sign of overload: what SlowDown and timeouts ask for.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from moraine.errors import MoraineError, Transient


class Pace:
    """Lets so many requests of all threads through; the others wait their turn."""

    def __init__(self, first: int = 8, most: int = 64) -> None:
        self.limit = first
        self._most = most
        self._running = 0
        self._well = 0  # requests without trouble since the limit was last moved
        self._round = 0  # counts halvings, so that requests that ran side by side cause one and not several
        self._turn = threading.Condition()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Around one request: waits for its turn, and learns from how it ends."""
        with self._turn:
            self._turn.wait_for(lambda: self._running < self.limit)
            self._running += 1
            begun = self._round
        overload = False
        try:
            yield
        except MoraineError as error:
            overload = isinstance(error, Transient)
            raise
        finally:
            self._end(overload, begun)

    def _end(self, overload: bool, begun: int) -> None:
        with self._turn:
            self._running -= 1
            if overload and begun == self._round:
                self.limit = max(1, self.limit // 2)
                self._round += 1
                self._well = 0
            elif not overload:
                self._well += 1
                if self._well >= self.limit:
                    self.limit = min(self._most, self.limit + 1)
                    self._well = 0
            self._turn.notify_all()
