"""`moraine key`: the passphrases that open a repository."""

from __future__ import annotations

import argparse

from moraine.cli.context import Context
from moraine.cli.parser import add_verbs
from moraine.cli.text import show_time, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's own arguments."""
    verbs = add_verbs(
        parser,
        {
            "add": "let one more passphrase open the repository",
            "list": "list the key slots",
            "remove": "take a key slot away; never the last one",
        },
    )
    verbs["add"].add_argument("--new-passphrase-file", metavar="FILE", help="the new passphrase; asked for otherwise")
    verbs["add"].add_argument("--label", default="", metavar="TEXT", help="what or whom it is for")
    verbs["remove"].add_argument("slot", metavar="SLOT", help="the slot's id, its beginning, or its label")


def run(args: argparse.Namespace, context: Context) -> int:
    """Add, list or remove a key slot."""
    repository = context.open_repository(args)
    if args.action == "add":
        secret = context.new_passphrase(args.new_passphrase_file)
        slot = repository.add_slot(secret, label=args.label, now=context.clock())
        return _answer(context, {"added": slot}, f"key slot {slot} added")
    if args.action == "remove":
        slot = repository.remove_slot(args.slot, now=context.clock())
        return _answer(
            context, {"removed": slot}, f"key slot {slot} removed: its passphrase opens the repository no more"
        )
    return _list(context, repository.slots)


def _list(context: Context, slots: list[dict[str, str]]) -> int:
    from moraine.model.entry import display_path
    from moraine.model.window import parse_time

    if context.out.as_json:
        context.out.json(
            [{name: slot[name] for name in ("slot", "kind", "role", "label", "created_at")} for slot in slots]
        )
    elif not slots:
        context.out.summary(["a plain repository: no keys, everybody who can read the store can read the data"])
    else:
        rows = [
            [
                slot["slot"],
                slot["kind"],
                show_time(parse_time(slot["created_at"])),
                display_path(slot["label"].encode()),
            ]
            for slot in slots
        ]
        context.out.lines(table(("slot", "kind", "created", "label"), rows))
    return 0


def _answer(context: Context, content: dict[str, str], text: str) -> int:
    if context.out.as_json:
        context.out.json(content)
    else:
        context.out.summary([text])
    return 0
