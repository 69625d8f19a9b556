"""A store that dies at a given call, before or after its effect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moraine.stores.base import Buffer, ObjectInfo, Store


class Crash(BaseException):
    """The process is gone; nothing may catch this."""


class CrashingStore:
    """Counts calls; dies at call number `at`, and at every later one, as a dead process makes none."""

    def __init__(self, inner: Store, at: int = 0, *, after: bool = False) -> None:
        self._inner = inner
        self._at = at
        self._after = after
        self.calls = 0
        self.url = inner.url

    def put(self, key: str, data: Buffer) -> None:
        self._call("put", key, data)

    def get(self, key: str) -> bytes:
        return bytes(self._call("get", key))

    def get_range(self, key: str, start: int, length: int) -> bytes:
        return bytes(self._call("get_range", key, start, length))

    def head(self, key: str) -> ObjectInfo:
        found: ObjectInfo = self._call("head", key)
        return found

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[ObjectInfo]:
        return iter(self._call("list", prefix, after=after))

    def delete(self, key: str) -> None:
        self._call("delete", key)

    def _call(self, verb: str, *arguments: Any, **options: Any) -> Any:
        self.calls += 1
        if self._at and (self.calls > self._at or (self.calls == self._at and not self._after)):
            raise Crash(f"{verb} {arguments[0]}")
        answer = getattr(self._inner, verb)(*arguments, **options)
        if verb == "list":
            answer = list(answer)
        if self.calls == self._at:
            raise Crash(f"{verb} {arguments[0]}")
        return answer
