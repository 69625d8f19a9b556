"""A store that fails on purpose, for fault tests and drills: crashes, errors, lost answers, damaged bytes."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple, TypeVar

from moraine.errors import AccessDenied, MoraineError, StoreFull, StoreUnavailable
from moraine.model.record import dataclass
from moraine.stores.base import Buffer, ObjectInfo, Store

T = TypeVar("T")
Verb = Literal["put", "get", "get_range", "head", "list", "delete"]


class Crash(BaseException):
    """The process died here. Nothing but a test catches it, and nothing reaches the store afterwards."""


class Call(NamedTuple):
    """One call that reached the store; numbers begin at 1."""

    number: int
    verb: Verb
    key: str


class Effect(Enum):
    """What goes wrong."""

    UNAVAILABLE = "unavailable"
    FULL = "full"
    DENIED = "denied"
    LOST = "lost"  # the call takes effect, but its answer does not arrive
    TRUNCATE = "truncate"  # the second half of the bytes read is missing
    FLIP = "flip"  # one bit in the middle of the bytes read is wrong


_ERRORS: dict[Effect, type[MoraineError]] = {
    Effect.UNAVAILABLE: StoreUnavailable,
    Effect.LOST: StoreUnavailable,
    Effect.FULL: StoreFull,
    Effect.DENIED: AccessDenied,
}


@dataclass
class Fault:
    """An effect on calls of one verb (or any) whose key matches a pattern: not on the first `skip`, then on `times`."""

    effect: Effect
    verb: Verb | Literal["*"] = "*"
    keys: str = "*"
    times: int | None = None  # None: on all of them
    skip: int = 0

    def strikes(self, verb: Verb, key: str) -> bool:
        """Whether this call is hit; counts it."""
        if self.verb not in ("*", verb) or not fnmatchcase(key, self.keys):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None:
            if not self.times:
                return False
            self.times -= 1
        return True


class FaultStore:
    """Another store, seen through faults; `calls` records all that was asked of it.

    With `crash_at=n` the n-th call raises Crash, either before it takes effect or after, and so does every later one.
    """

    def __init__(
        self,
        inner: Store,
        faults: Sequence[Fault] = (),
        *,
        crash_at: int | None = None,
        crash: Literal["before", "after"] = "before",
    ) -> None:
        self.inner = inner
        self.faults = list(faults)
        self.calls: list[Call] = []
        self._last_words = crash_at if crash == "after" else None  # the call that takes effect without an answer
        self._dead_from = math.inf if crash_at is None else crash_at + (crash == "after")
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where the store is."""
        return self.inner.url

    def put(self, key: str, data: Buffer) -> None:
        """Create an object."""
        self._call("put", key, lambda: self.inner.put(key, data))

    def get(self, key: str) -> bytes:
        """The whole object."""
        return self._call("get", key, lambda: self.inner.get(key))

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """A part of it."""
        return self._call("get_range", key, lambda: bytes(self.inner.get_range(key, start, length)))

    def head(self, key: str) -> ObjectInfo:
        """Size and time."""
        return self._call("head", key, lambda: self.inner.head(key))

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[ObjectInfo]:
        """Objects under `prefix`; counts as one call when it begins."""
        return self._call("list", prefix, lambda: self.inner.list(prefix, after=after))

    def delete(self, key: str) -> None:
        """Remove an object."""
        self._call("delete", key, lambda: self.inner.delete(key))

    def _call(self, verb: Verb, key: str, call: Callable[[], T]) -> T:
        number, effects = self._record(verb, key)
        for effect in effects:
            if effect in _ERRORS and effect is not Effect.LOST:
                raise _error(effect, verb, key)
        result = call()
        if number == self._last_words:
            raise Crash(f"after call {number}: {verb} {key}")
        if Effect.LOST in effects:
            raise _error(Effect.LOST, verb, key)
        return _damaged(result, effects)

    def _record(self, verb: Verb, key: str) -> tuple[int, Sequence[Effect]]:
        with self._lock:
            number = len(self.calls) + 1
            if number >= self._dead_from:
                raise Crash(f"at call {number}: {verb} {key}")
            self.calls.append(Call(number, verb, key))
            return number, [fault.effect for fault in self.faults if fault.strikes(verb, key)]


def _error(effect: Effect, verb: str, key: str) -> MoraineError:
    return _ERRORS[effect](f"injected: {effect.value} at {verb} {key}", object=key)


def _damaged(result: T, effects: Sequence[Effect]) -> T:
    if isinstance(result, bytes):
        if Effect.TRUNCATE in effects:
            return result[: len(result) // 2]  # type: ignore[return-value]
        if Effect.FLIP in effects and result:
            middle = len(result) // 2
            return result[:middle] + bytes([result[middle] ^ 1]) + result[middle + 1 :]  # type: ignore[return-value]
    return result
