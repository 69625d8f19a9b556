"""Progress on stderr: a bar on a terminal, a plain line every few seconds elsewhere. Implements `model.progress`."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import timedelta
from typing import TextIO

from moraine.cli.output import Output
from moraine.cli.text import plural
from moraine.model.progress import NoProgress, Progress
from moraine.model.units import format_size

BAR_EVERY = 0.1  # seconds
LINE_EVERY = 5.0
_WIDTH = 24

Monotonic = Callable[[], float]


def make_progress(output: Output) -> Progress:
    """What fits stderr: nothing with --quiet, a bar on a terminal, lines elsewhere."""
    if output.quiet:
        return NoProgress()
    stream = output.stderr
    return Bar(stream) if stream.isatty() else Lines(stream)


class _Phase:
    """Counts and rates of one phase."""

    def __init__(self, name: str, files: int | None, bytes: int | None, now: float) -> None:
        self.name, self.all_files, self.all_bytes, self.began = name, files, bytes, now
        self.files = self.bytes = 0

    @property
    def share(self) -> float | None:
        """How much is done: by bytes where there are any, else by files."""
        if self.all_bytes:
            return min(1.0, self.bytes / self.all_bytes)
        return min(1.0, self.files / self.all_files) if self.all_files else None

    def amounts(self) -> str:
        """`1,234 of 5,678 files, 1.2 of 2.0 GiB`."""
        files = f"{self.files:,} of {plural(self.all_files, 'file')}" if self.all_files else plural(self.files, "file")
        size = format_size(self.bytes) + (f" of {format_size(self.all_bytes)}" if self.all_bytes else "")
        return ", ".join([files] * bool(self.files or self.all_files) + [size] * bool(self.bytes or self.all_bytes))

    def rate(self, now: float) -> str:
        """`185 MiB/s`, or files a second where no bytes are counted."""
        elapsed = max(now - self.began, 1e-3)
        return f"{format_size(self.bytes / elapsed)}/s" if self.bytes else f"{self.files / elapsed:,.0f} files/s"

    def left(self, now: float) -> str:
        """`ETA 0:01:12`; empty while nobody can know."""
        share, elapsed = self.share, now - self.began
        if not share or share >= 1 or elapsed < 1:
            return ""
        return f"ETA {timedelta(seconds=round(elapsed / share - elapsed))}"


class _Renderer(ABC):
    """Common part: counts phases and decides when to draw."""

    every: float

    def __init__(self, stream: TextIO, monotonic: Monotonic = time.monotonic) -> None:
        self._stream, self._now = stream, monotonic
        self._phase: _Phase | None = None
        self._next = 0.0

    def start(self, phase: str, files: int | None = None, bytes: int | None = None) -> None:
        """A phase begins."""
        now = self._now()
        self._phase, self._next = _Phase(phase, files, bytes, now), now + self.every

    def advance(self, files: int = 0, bytes: int = 0) -> None:
        """So much more is done."""
        if self._phase is None:
            return
        self._phase.files += files
        self._phase.bytes += bytes
        now = self._now()
        if now >= self._next:
            self._next = now + self.every
            self._draw(self._phase, now)

    def finish(self, phase: str) -> None:
        """The phase is over."""
        if self._phase is not None:
            self._end(self._phase, self._now())
        self._phase = None

    @abstractmethod
    def _draw(self, phase: _Phase, now: float) -> None:
        """Show where the phase stands."""

    @abstractmethod
    def _end(self, phase: _Phase, now: float) -> None:
        """Show what the phase came to."""

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            self._phase = None  # a terminal that has gone is no reason to stop a backup


class Bar(_Renderer):
    """One line that is drawn over and over, and wiped when the phase ends."""

    every = BAR_EVERY
    _drawn = False

    def _draw(self, phase: _Phase, now: float) -> None:
        parts = [f"{phase.name:<7}"]
        if phase.share is not None:
            parts += [self._bar(phase.share), f"{phase.share * 100:3.0f}%"]
        parts += [phase.amounts(), phase.rate(now), phase.left(now)]
        import shutil

        room = shutil.get_terminal_size().columns - 1
        self._drawn = True
        self._write("\r\x1b[K" + "  ".join(part for part in parts if part)[:room])

    def _bar(self, share: float) -> str:
        done = int(share * _WIDTH)
        full, empty = "━─" if (self._stream.encoding or "").lower().startswith("utf") else "#."
        return full * done + empty * (_WIDTH - done)

    def _end(self, phase: _Phase, now: float) -> None:
        if self._drawn:
            self._write("\r\x1b[K")
        self._drawn = False


class Lines(_Renderer):
    """A line now and then; phases that end before the first one say nothing."""

    every = LINE_EVERY

    def _draw(self, phase: _Phase, now: float) -> None:
        share = f"{phase.share * 100:.0f}%" if phase.share is not None else ""
        parts = (share, phase.amounts(), phase.rate(now), phase.left(now))
        self._write(f"{phase.name}: {', '.join(part for part in parts if part)}\n")

    def _end(self, phase: _Phase, now: float) -> None:
        if now - phase.began >= self.every:
            self._write(f"{phase.name}: done, {phase.amounts()} in {timedelta(seconds=round(now - phase.began))}\n")
