"""`moraine repo init` and `repo probe`: make a repository, and try what its store can do."""

from __future__ import annotations

import argparse

from moraine.cli.context import Context
from moraine.cli.parser import add_verbs
from moraine.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's own arguments."""
    verbs = add_verbs(
        parser,
        {
            "init": "make a repository, encrypted unless --plain is given",
            "probe": "say what a store can and cannot do; leaves no object behind",
        },
    )
    for verb in verbs.values():
        verb.add_argument(
            "url", nargs="?", metavar="URL", help="where (or --repo): path, file:///… or s3://bucket/prefix"
        )
    init = verbs["init"]
    init.add_argument("--plain", action="store_true", help="do NOT encrypt: whoever reads the store reads the data")
    init.add_argument(
        "--label", default="first", metavar="TEXT", help="what or whom the passphrase is for (default: first)"
    )


def run(args: argparse.Namespace, context: Context) -> int:
    """Probe the store, then make the repository; or only probe it."""
    if args.url and args.repo and args.url != args.repo:
        raise ConfigError("two addresses are given", hint="leave out URL or --repo")
    return _probe(args, context) if args.action == "probe" else _init(args, context)


def _probe(args: argparse.Namespace, context: Context) -> int:
    from moraine.report.probe import probe

    found = probe(context.open_store(args, args.url), context.entropy)
    if context.out.as_json:
        context.out.json(found.to_dict())
    else:
        context.out.lines(found.lines())
    if found.unfit:
        raise found.unfit
    return 0


def _init(args: argparse.Namespace, context: Context) -> int:
    if args.plain and args.passphrase_file:
        raise ConfigError("--plain and --passphrase-file exclude each other", hint="leave one of them out")
    from moraine.steps.init import init_repository

    store = context.open_store(args, args.url)
    path = args.passphrase_file or context.environ.get("MORAINE_PASSPHRASE_FILE")
    repository = init_repository(
        store,
        None if args.plain else lambda: context.new_passphrase(path),
        clock=context.clock,
        entropy=context.entropy,
        label=args.label,
    )
    config = repository.config
    notes = config.capabilities["notes"]
    for note in notes:
        context.out.note(f"note: {note}")
    if context.out.as_json:
        context.out.json({"repository": store.url, "id": config.id, "encrypted": config.encrypted, "notes": notes})
    elif config.encrypted:
        context.out.summary(
            [
                f"repository {config.id} made at {store.url}, encrypted",
                "Keep the passphrase or key file in a second, safe place: without it nobody can restore, ever.",
            ]
        )
    else:
        context.out.summary(
            [
                f"repository {config.id} made at {store.url}, PLAIN",
                "It is not encrypted: whoever can read the store can read the data.",
            ]
        )
    return 0
