"""`moraine policy`: check, explain and describe policy files."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from moraine.cli.context import Context
from moraine.cli.parser import add_verbs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's own arguments."""
    verbs = add_verbs(
        parser,
        {
            "validate": "check policy files, or all of a folder",
            "explain": "say in English what a policy does",
            "explain-path": "say why a path is in or out",
            "schema": "print the JSON schema of policy files, for editors",
        },
    )
    verbs["validate"].add_argument("files", nargs="+", metavar="FILE", help="policy files, or folders of them")
    verbs["explain"].add_argument("files", nargs="+", metavar="FILE", help="policy files")
    verbs["explain-path"].add_argument("files", nargs=1, metavar="FILE", help="a policy file")
    verbs["explain-path"].add_argument(
        "paths", nargs="+", metavar="PATH", help="absolute, or relative to the source's root"
    )


def run(args: argparse.Namespace, context: Context) -> int:
    """Do what the action says."""
    action = {"validate": _validate, "explain": _explain, "explain-path": _explain_path, "schema": _schema}[args.action]
    return action(args, context)


def _validate(args: argparse.Namespace, context: Context) -> int:
    """Check every file; the exit code is that of the first mistake."""
    from moraine.errors import ConfigError
    from moraine.model.policy_file import BrokenPolicy, load_policies, load_policy

    good: list[str] = []
    broken: list[BrokenPolicy] = []
    for path in map(Path, args.files):
        if path.is_dir():
            policies, bad = load_policies(path)
            good += [policy.policy for policy in policies]
            broken += bad
            continue
        try:
            good.append(load_policy(path).policy)
        except ConfigError as error:
            broken.append(BrokenPolicy(path, error))
    if context.out.as_json:
        errors = [{"file": str(item.path), **item.error.to_dict()} for item in broken]
        context.out.json({"valid": good, "broken": errors})
    else:
        context.out.summary(f"{name}: valid" for name in good)
        for item in broken:
            for problem in item.error.context.get("problems", [item.error.message]):
                context.out.line(f"{item.error.code}: {problem}")
    return broken[0].error.exit_code if broken else 0


def _explain(args: argparse.Namespace, context: Context) -> int:
    from moraine.model.policy_file import load_policy

    policies = [load_policy(path) for path in args.files]
    if context.out.as_json:
        context.out.json(
            [{"policy": p.policy, "digest": p.digest, "explanation": p.explain().split("\n")} for p in policies]
        )
    else:
        context.out.line("\n\n".join(policy.explain() for policy in policies))
    return 0


def _explain_path(args: argparse.Namespace, context: Context) -> int:
    from moraine.model.entry import display_path
    from moraine.model.policy_file import load_policy
    from moraine.steps.source import open_source

    source = open_source(load_policy(args.files[0]))
    found = [(path, source.explain(path)) for path in args.paths]
    if context.out.as_json:
        context.out.json([{"path": path, **asdict(explanation)} for path, explanation in found])
        return 0
    for path, explanation in found:
        rule = f": {explanation.rule}" if explanation.rule else ""
        by = f" (by {explanation.by})" if explanation.by and explanation.by != path else ""
        shown = display_path(path.encode("utf-8", "surrogateescape"))
        context.out.line(f"{'in ' if explanation.included else 'out'}  {shown}  {explanation.reason}{rule}{by}")
    return 0


def _schema(args: argparse.Namespace, context: Context) -> int:
    from moraine.model.policy_file import policy_schema

    context.out.line(json.dumps(policy_schema(), indent=2, ensure_ascii=False))
    return 0
