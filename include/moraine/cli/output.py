"""What the command line prints: results to stdout, everything about them to stderr, as text or as JSON.

Owns encodings, closed pipes and the form of errors. Names from a repository reach it as escaped text only
(`display_path`), so no file name can move a terminal's cursor.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from itertools import islice
from typing import Any, TextIO

from moraine.errors import MoraineError

_AT_ONCE = 256  # lines written together


class OutputClosed(Exception):
    """Whoever read our output does not any more (`moraine ls | head`)."""


class Output:
    """Two streams, and how much to say on them."""

    def __init__(
        self, stdout: TextIO | None, stderr: TextIO | None, *, as_json: bool, quiet: bool, verbose: bool
    ) -> None:
        self._stdout = stdout or _nowhere()  # both are None when a caller has closed them
        self.stderr = stderr or _nowhere()
        self.as_json = as_json
        self.quiet = quiet
        self.verbose = verbose

    @classmethod
    def standard(cls, *, as_json: bool = False, quiet: bool = False, verbose: bool = False) -> Output:
        """The process's own streams; letters their encoding lacks are escaped instead of failing."""
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        return cls(sys.stdout, sys.stderr, as_json=as_json, quiet=quiet, verbose=verbose)

    def line(self, text: str = "") -> None:
        """One line of the result."""
        self._write(text + "\n")

    def lines(self, texts: Iterable[str]) -> None:
        """Many lines of the result."""
        rest = iter(texts)
        while some := list(islice(rest, _AT_ONCE)):
            self._write("\n".join(some) + "\n")

    def summary(self, texts: Iterable[str]) -> None:
        """Lines that round a result off for people; not with --quiet."""
        if not self.quiet:
            self.lines(texts)

    def json(self, content: Any) -> None:
        """One JSON document."""
        self._write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def json_array(self, items: Iterable[Any]) -> None:
        """A JSON array whose items are made while they are written, one per line."""
        start, rest = "[\n", iter(items)
        while some := list(islice(rest, _AT_ONCE)):
            self._write(start + ",\n".join(json.dumps(item, ensure_ascii=False) for item in some))
            start = ",\n"
        self._write("[]\n" if start == "[\n" else "\n]\n")

    def bytes(self, data: bytes) -> None:
        """Raw bytes of the result."""
        try:
            self._stdout.buffer.write(data)
        except BrokenPipeError as error:
            raise OutputClosed from error

    def note(self, text: str) -> None:
        """A remark on stderr; not with --quiet."""
        if not self.quiet:
            self._remark(text)

    def warn(self, text: str) -> None:
        """A remark on stderr that --quiet does not silence."""
        self._remark(text)

    def detail(self, text: str) -> None:
        """A remark on stderr that only --verbose asks for."""
        if self.verbose:
            self._remark(text)

    def error(self, error: MoraineError) -> None:
        """An error on stderr: one line, or a JSON object."""
        text = json.dumps(error.to_dict(), default=str, ensure_ascii=False) if self.as_json else error.line()
        self._remark(text)

    def flush(self) -> None:
        """Hand over what is buffered."""
        try:
            self._stdout.flush()
        except BrokenPipeError as error:
            raise OutputClosed from error

    def abandon(self) -> None:
        """Forget what is still buffered for a reader who has gone, or the interpreter complains when it ends."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stdout.fileno())

    def _write(self, text: str) -> None:
        try:
            self._stdout.write(text)
        except BrokenPipeError as error:
            raise OutputClosed from error

    def _remark(self, text: str) -> None:
        try:
            self.stderr.write(text + "\n")
            self.stderr.flush()
        except BrokenPipeError:
            self.stderr = _nowhere()


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")
