"""`moraine key`: the passphrases and generated keys that open a repository."""

from __future__ import annotations

import argparse

from moraine.cli.context import Context
from moraine.cli.parser import add_verbs
from moraine.cli.text import show_time, table

_KEEP = "Who has this file can read the data, and without it nobody can: keep a copy in a second, safe place."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's own arguments."""
    verbs = add_verbs(
        parser,
        {
            "generate": "write a new generated key into a file, to be used like a passphrase file",
            "add": "let one more passphrase or generated key open the repository",
            "list": "list the key slots",
            "remove": "take a key slot away; never the last one",
        },
    )
    verbs["generate"].add_argument("file", metavar="FILE", help="a new file, readable by its owner only; - for stdout")
    verbs["add"].add_argument(
        "--new-passphrase-file", metavar="FILE", help="the new passphrase or generated key; asked for otherwise"
    )
    verbs["add"].add_argument("--label", default="", metavar="TEXT", help="what or whom it is for")
    verbs["remove"].add_argument("slot", metavar="SLOT", help="the slot's id, its beginning, or its label")


def run(args: argparse.Namespace, context: Context) -> int:
    """Generate a key, which needs no repository; or add, list or remove a key slot."""
    if args.action == "generate":
        return _generate(context, args.file)
    repository = context.open_repository(args)
    if args.action == "add":
        secret = context.new_passphrase(args.new_passphrase_file)
        slot = repository.add_slot(secret, label=args.label, now=context.clock())
        return _answer(context, {"added": slot}, f"key slot {slot} added")
    if args.action == "remove":
        slot = repository.remove_slot(args.slot, now=context.clock())
        return _answer(
            context, {"removed": slot}, f"key slot {slot} removed: its passphrase or key opens the repository no more"
        )
    return _list(context, repository.slots)


def _generate(context: Context, file: str) -> int:
    if file != "-":
        from moraine.steps.key_file import write_key_file

        write_key_file(file, context.entropy)
        return _answer(context, {"generated": file}, f"generated key written to {file}\n{_KEEP}")
    from moraine.repository.key_slots import generate_key

    key = generate_key(context.entropy)
    if context.out.as_json:
        context.out.json({"generated": file, "key": key})
    else:
        context.out.line(key)
    return 0


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
