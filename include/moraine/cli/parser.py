"""The command line's grammar: verbs, and the flags that every verb takes before or after it.

A verb's own arguments are declared in its module, which is imported only when the verb is used, so that `--help` and
short verbs start fast. Knows no verb beyond its name and help line.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import IO, Any, NoReturn, Protocol, cast

from moraine import __version__
from moraine.cli.context import Context

VERBS = {
    "repo": "make a repository, or try what a store can do",
    "backup": "back up a directory, or what a policy file says",
    "mirror": "keep a plain tree like a directory or bucket, with a trash",
    "snapshots": "list snapshots",
    "ls": "list what a snapshot holds",
    "find": "find every version of a file in all snapshots",
    "diff": "show what differs between two snapshots",
    "stats": "show sizes, deduplication and compression",
    "restore": "restore a snapshot, or part of it",
    "drill": "rehearse a restore as a policy says, and keep the proof",
    "check": "check a repository, down to every byte if you like",
    "sql": "ask the files of all snapshots in SQL",
    "key": "generate keys; add, list and remove what opens a repository",
    "hold": "exempt snapshots from forgetting",
    "forget": "forget snapshots by name or by rules",
    "retain": "forget what a policy's rules no longer keep",
    "sweep": "remove what abandoned and finished runs have left",
    "coverage": "show which windows of a policy's schedule have a snapshot",
    "status": "show how policies stand against their objectives (rpo, rto)",
    "policy": "check, explain and describe policy files",
}

_EPILOG = """\
The command of a checkout also has: run POLICY, up, airflow, test, lint (`./moraine run --help`).

Exit codes: 0 all well, 2 wrong usage, 3 committed but some files could not be read, 10 policy or flags, 20 source,
30-35 store, 40-47 repository, 50-51 damaged data, 60-62 restore, 70 proof, 80 objective missed, 130 stopped,
141 output closed. docs/ERRORS.md lists every error.
"""


class Verb(Protocol):
    """What the module of a verb has."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the verb's own arguments."""

    def run(self, args: argparse.Namespace, context: Context) -> int:
        """Do it; the exit code."""


def verb_module(name: str) -> Verb:
    """The module of a verb."""
    return cast(Verb, import_module(f"moraine.cli.{name}"))


class _Parser(argparse.ArgumentParser):
    """An argument parser that says one line when it is used wrongly, with the nearest right word."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str) -> NoReturn:
        found = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if found:
            import difflib

            choices = re.findall(r"[\w-]+", found[2])
            near = difflib.get_close_matches(found[1], choices, 1)
            message = f"there is no {found[1]!r}; " + (
                f"did you mean {near[0]!r}?" if near else f"choose from {found[2]}"
            )
        sys.stderr.write(f"usage: {message} (`{self.prog} --help` shows how)\n")
        raise SystemExit(2)


class _VerbParser(_Parser):
    """Asks the verb's module for its arguments only when the verb is used."""

    def __init__(self, *args: Any, verb: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._verb = verb

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._verb:
            verb_module(self._verb).add_arguments(self)
            for parser in [self, *_nested(self)]:
                add_common_flags(parser, default=argparse.SUPPRESS)
            self._verb = None
        return super().parse_known_args(args, namespace)


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = _Parser(
        prog="moraine",
        description="Backup and restore: deduplicated, encrypted, proven.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"moraine {__version__}")
    add_common_flags(parser, default=None)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs", parser_class=_VerbParser)
    for name, text in VERBS.items():
        verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", verb=name)
    return parser


def add_common_flags(parser: argparse.ArgumentParser, *, default: Any) -> None:
    """The flags of every verb; `default` is SUPPRESS in verbs, so that flags before the verb are not undone."""
    flags = parser.add_argument_group("common flags")
    off = default if default is argparse.SUPPRESS else False
    flags.add_argument(
        "--repo", metavar="URL", default=default, help="path, file:///… or s3://bucket/prefix [MORAINE_REPOSITORY]"
    )
    flags.add_argument("--endpoint-url", metavar="URL", default=default, help="an S3 server that is not AWS")
    flags.add_argument("--region", metavar="NAME", default=default, help="the bucket's region")
    flags.add_argument(
        "--passphrase-file",
        metavar="FILE",
        default=default,
        help="passphrase or generated key [MORAINE_PASSPHRASE_FILE]; asked for otherwise",
    )
    flags.add_argument("--json", action="store_true", default=off, help="print JSON; errors too, on stderr")
    flags.add_argument("-q", "--quiet", action="store_true", default=off, help="no progress, no summaries")
    flags.add_argument("-v", "--verbose", action="store_true", default=off, help="say more")
    flags.add_argument("--debug", action="store_true", default=off, help="show tracebacks")


def add_verbs(parser: argparse.ArgumentParser, verbs: dict[str, str]) -> dict[str, argparse.ArgumentParser]:
    """Sub-verbs (`key add`): name → help line; their names end up in `args.action`."""
    group = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=_Parser)
    return {
        name: group.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        for name, text in verbs.items()
    }


def parse(arguments: Sequence[str], out: IO[str]) -> argparse.Namespace:
    """The parsed command line; without a verb the help is printed and the exit code is 2."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    if args.verb is None:
        parser.print_help(out)
        raise SystemExit(2)
    return args


def _nested(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    found: list[argparse.ArgumentParser] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += action.choices.values()
    return found
