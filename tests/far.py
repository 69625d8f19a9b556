"""A store that is far away, as S3 is: it likes requests side by side. Records them, and fails on purpose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from moraine.stores.fault import Crash, FaultStore, Verb


class FarStore(FaultStore):
    """What asks ahead does so here."""

    at_once = 8
    crashed = False  # whether anything was asked after the process had died

    def asked(self, verb: Verb) -> Counter[str]:
        """How often each key was asked for."""
        return Counter(call.key for call in self.calls if call.verb == verb)

    def _call(self, verb: Verb, key: str, call: Callable[[], Any]) -> Any:
        try:
            return super()._call(verb, key, call)
        except Crash:
            self.crashed = True
            raise
