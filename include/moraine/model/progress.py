"""What a step says while it works; rendered elsewhere."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives counts from one step at a time; `advance` is called by any of its threads, but by one at a time."""

    def start(self, phase: str, files: int | None = None, bytes: int | None = None) -> None:
        """A phase begins; totals are None where they are not known."""

    def advance(self, files: int = 0, bytes: int = 0) -> None:
        """So much more is done."""

    def finish(self, phase: str) -> None:
        """The phase is over."""


class NoProgress:
    """Says nothing."""

    def start(self, phase: str, files: int | None = None, bytes: int | None = None) -> None:
        """Nothing."""

    def advance(self, files: int = 0, bytes: int = 0) -> None:
        """Nothing."""

    def finish(self, phase: str) -> None:
        """Nothing."""
