"""`docs/ERRORS.md`, written from the error classes: `python -m moraine.cli.errors_page > docs/ERRORS.md`."""

from __future__ import annotations

from collections.abc import Iterator

from moraine import errors
from moraine.cli.main import CLOSED, InternalError
from moraine.errors import MoraineError, Transient

_HEAD = """\
# Errors and exit codes

Written from `moraine/errors.py` by `python -m moraine.cli.errors_page`; a test keeps it so.

Every failure is one line on stderr, `code: message (hint)`; with `--json` it is one JSON object with `code`,
`message`, `hint` and `context`. Scripts branch on the exit code or on `code`, never on the text. Airflow retries
errors that are transient and gives up on all others at once.

| exit code | code | meaning | retried |
|---:|---|---|---|
"""

_OTHER = (
    (0, "", "All well."),
    (2, "", "The command line was used wrongly; nothing was done."),
    (3, "", "The snapshot is committed, but some files could not be read: `moraine ls -l` shows them."),
    (CLOSED, "", "Whoever read the output went away (`moraine ls \\| head`)."),
)


def errors_page() -> str:
    """The page, Markdown."""
    return _HEAD + "\n".join(_lines()) + "\n"


def error_classes(root: type[MoraineError] = MoraineError) -> Iterator[type[MoraineError]]:
    """Every class of the tree below `root`, parents first."""
    for kind in root.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield kind
            yield from error_classes(kind)


def _lines() -> list[str]:
    rows = [(kind.exit_code, kind.code, _first_line(kind), issubclass(kind, Transient)) for kind in error_classes()]
    rows += [(InternalError.exit_code, InternalError.code, _first_line(InternalError), False)]
    rows += [(number, code, text, False) for number, code, text in _OTHER]
    shown = [
        (exit_code, f"`{code}`" if code else "", text, "yes" if retried else "")
        for exit_code, code, text, retried in rows
    ]
    return [
        f"| {exit_code} | {code} | {text} | {retried} |"
        for exit_code, code, text, retried in sorted(shown, key=lambda r: r[0])
    ]


def _first_line(kind: type[MoraineError]) -> str:
    return (kind.__doc__ or "").strip().partition("\n")[0]


if __name__ == "__main__":
    print(errors_page(), end="")
