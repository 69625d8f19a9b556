"""Patience with a store: passing failures are tried again for a while, ambiguous ones are cleared up.

A pause between attempts holds no turn of the pace: others go on meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from moraine.errors import MoraineError, ObjectExists, Transient
from moraine.model.record import dataclass
from moraine.stores.ahead import at_once
from moraine.stores.base import Buffer, ObjectInfo, Store
from moraine.stores.pace import Pace

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """How long to go on: exponential backoff with full jitter within `budget` seconds.

    The budget runs from the first failure, so that a call that took long to fail is still tried again.
    """

    sleep: Callable[[float], None]
    clock: Callable[[], float]
    random: Callable[[], float]  # in [0, 1)
    budget: float = 60.0
    first: float = 0.05
    most: float = 10.0


class RetryingStore:
    """A store that meets transient errors of another with patience."""

    def __init__(self, inner: Store, patience: Patience, pace: Pace | None = None) -> None:
        self.inner = inner
        self.pace = pace or Pace()
        self._patience = patience

    @property
    def url(self) -> str:
        """Where the store is."""
        return self.inner.url

    @property
    def at_once(self) -> int:
        """How many requests it likes side by side."""
        return at_once(self.inner)

    def put(self, key: str, data: Buffer) -> None:
        """Create an object; it may be there already when an answer of ours got lost and the bytes are the same."""
        trial = _Trial(self._patience, self.pace)

        def attempt() -> None:
            try:
                self.inner.put(key, data)
            except ObjectExists:
                if not (trial.failures and self.inner.get(key) == data):
                    raise

        trial.run(attempt)

    def get(self, key: str) -> bytes:
        """The whole object."""
        return _Trial(self._patience, self.pace).run(lambda: self.inner.get(key))

    def get_range(self, key: str, start: int, length: int) -> Buffer:
        """A part of it."""
        return _Trial(self._patience, self.pace).run(lambda: self.inner.get_range(key, start, length))

    def head(self, key: str) -> ObjectInfo:
        """Size and time."""
        return _Trial(self._patience, self.pace).run(lambda: self.inner.head(key))

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[ObjectInfo]:
        """Objects under `prefix`; a listing that breaks goes on after the last object seen."""
        trial = _Trial(self._patience, self.pace)
        while True:
            try:
                for info in self.inner.list(prefix, after=after):
                    after = info.key
                    if trial.failures:
                        trial = _Trial(self._patience, self.pace)
                    yield info
                return
            except MoraineError as error:
                trial.pause(error)

    def delete(self, key: str) -> None:
        """Remove an object."""
        _Trial(self._patience, self.pace).run(lambda: self.inner.delete(key))


class _Trial:
    """One call and its repetitions."""

    def __init__(self, patience: Patience, pace: Pace) -> None:
        self._patience = patience
        self._pace = pace
        self._deadline = 0.0
        self.failures = 0

    def run(self, call: Callable[[], T]) -> T:
        while True:
            try:
                with self._pace.request():
                    return call()
            except MoraineError as error:
                self.pause(error)

    def pause(self, error: MoraineError) -> None:
        """Wait before the next attempt; raises `error` when it is final or patience is at its end."""
        if not isinstance(error, Transient):
            raise error
        patience = self._patience
        now = patience.clock()
        if not self.failures:
            self._deadline = now + patience.budget
        pause = patience.random() * min(patience.most, patience.first * 2**self.failures)
        self.failures += 1
        if now + pause > self._deadline:
            error.context["attempts"] = self.failures
            raise error
        patience.sleep(pause)
