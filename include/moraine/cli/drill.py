"""`moraine drill`: rehearse a restore, and look at what rehearsals have shown."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moraine.cli.context import Context
from moraine.cli.flags import count
from moraine.cli.progress import make_progress
from moraine.cli.text import pairs, plural, show_time, table
from moraine.errors import ConfigError, ProofFailed, RestoreError

if TYPE_CHECKING:
    from moraine.model.policy import Policy
    from moraine.repository.repository import Repository

_SEEN = ("PATH", "LANG", "LC_ALL", "TZ")  # variables that the application may see


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's own arguments."""
    add = parser.add_argument
    add("policy", nargs="?", metavar="POLICY", help="a policy file, or the name of one in include/policies")
    add("--snapshot", metavar="SNAPSHOT", help="this one: an id, part of it, or latest")
    add("--seed", type=count, metavar="N", help="draw snapshot and files by this number")
    much = parser.add_mutually_exclusive_group()
    much.add_argument("--whole", dest="whole", action="store_true", default=None, help="restore the whole snapshot")
    much.add_argument("--sample", dest="whole", action="store_false", help="restore a sample of its files")
    add("--list", action="store_true", help="list the drills that were held")
    add("--show", metavar="DRILL", help="an earlier drill: its id, part of it, or latest")
    add("--report", metavar="FILE", help="write the page of the drill (HTML)")


def run(args: argparse.Namespace, context: Context) -> int:
    """Hold a drill, or look at earlier ones; 70 when it failed."""
    policy = context.find_policy(args.policy) if args.policy else None
    if args.list or args.show:
        repository = _open(args, context, policy)
        return _list(repository, policy, context) if args.list else _show_earlier(repository, policy, args, context)
    if policy is None:
        raise ConfigError("name the policy to drill", hint="`moraine drill POLICY`, or `--list`, or `--show DRILL`")
    return _hold(_open(args, context, policy), policy, args, context)


def _open(args: argparse.Namespace, context: Context, policy: Policy | None) -> Repository:
    if policy is None:
        return context.open_repository(args)
    credentials = policy.drill.credentials
    if credentials and credentials.passphrase_file:
        address = replace(policy.repository, passphrase_file=credentials.passphrase_file)
        policy = replace(policy, repository=address)
    return context.open_policy_repository(args, policy)


def _hold(repository: Repository, policy: Policy, args: argparse.Namespace, context: Context) -> int:
    from moraine.cli.holder import this_process
    from moraine.steps.drill import Rehearsal, drill

    holder = this_process()
    mine = f"cli/{holder.host}/"
    rehearsal = Rehearsal(
        clock=context.clock,
        entropy=context.entropy,
        scratch=Path(tempfile.gettempdir()),
        owner=mine + holder.mark,
        ended=lambda owner: owner.startswith(mine) and not holder.alive(owner.removeprefix(mine)),
        environ={name: context.environ[name] for name in _SEEN if name in context.environ},
        import_path=os.pathsep.join(filter(None, sys.path)),
    )
    asked: dict[str, Any] = {"name": args.snapshot, "seed": args.seed, "whole": args.whole}
    held = drill(repository, policy, rehearsal, **asked, progress=make_progress(context.out))
    report = repository.load_report(held.report)
    _export(repository, report, args.report, context)
    _show(report, context)
    return 0 if held.passed else ProofFailed.exit_code


def _list(repository: Repository, policy: Policy | None, context: Context) -> int:
    from moraine.model.window import parse_time
    from moraine.report.drills import reports

    found = reports(repository, policy.policy if policy else None)
    if context.out.as_json:
        context.out.json([_brief(report) for report in found])
        return 0

    def row(report: dict[str, Any]) -> list[str]:
        good = sum(check["passed"] for check in report["checks"])
        verdict = "passed" if report["passed"] else f"failed: {report['reasons'][0]}"
        much = "whole" if report["whole"] else "sample"
        held = show_time(parse_time(report["started_at"]))
        return [
            report["drill"],
            report["policy"],
            held,
            report["snapshot"],
            much,
            f"{good}/{len(report['checks'])}",
            verdict,
        ]

    if found:
        head = ("drill", "policy", "held", "snapshot", "what", "checks", "")
        context.out.lines(table(head, map(row, found), right=("checks",)))
    context.out.summary(["", plural(len(found), "drill")] if found else ["no drills"])
    return 0


def _show_earlier(repository: Repository, policy: Policy | None, args: argparse.Namespace, context: Context) -> int:
    from moraine.report.drills import find_report

    report = find_report(repository, args.show, policy.policy if policy else None)
    _export(repository, report, args.report, context)
    _show(report, context)
    return 0


def _export(repository: Repository, report: dict[str, Any], file: str | None, context: Context) -> None:
    from moraine.report.drills import page_of

    if file is None:
        return
    try:
        Path(file).write_text(page_of(repository, report), "utf-8")
    except OSError as error:
        raise RestoreError(
            f"the page cannot be written to {file}: {error.strerror}", hint="name another file"
        ) from error
    context.out.note(f"the page is in {file}")


def _brief(report: dict[str, Any]) -> dict[str, Any]:
    names = ("drill", "policy", "snapshot", "seed", "pick", "whole", "started_at", "finished_at", "seconds", "passed")
    return {name: report[name] for name in (*names, "sound", "reasons", "not_proven", "measured", "checks")}


def _show(report: dict[str, Any], context: Context) -> None:
    if context.out.as_json:
        context.out.json(_brief(report))
        return
    from moraine.model.units import format_size

    good, measured = sum(check["passed"] for check in report["checks"]), report["measured"]
    rows = [
        ("drill", f"{report['drill']} of {report['policy']}: {'passed' if report['passed'] else 'failed'}"),
        ("snapshot", f"{report['snapshot']}, {'whole' if report['whole'] else 'a sample'}, seed {report['seed']}"),
        ("checks", f"{good} of {len(report['checks'])} hold"),
    ]
    if measured:
        pace = f"{plural(measured['files'], 'file')}, {format_size(measured['bytes'])} in {measured['seconds']:,.1f} s"
        rows.append(("restored", f"{pace}, {format_size(measured['bytes_per_second'])}/s"))
        promised = f", promised {measured['rto_seconds']:,.0f} s" if measured["rto_seconds"] is not None else ""
        rows.append(("forecast", f"{measured['forecast_seconds']:,.1f} s for a full restore{promised}"))
    context.out.summary(pairs([*rows, *(("not proven", text) for text in report["not_proven"])]))
    for reason in report["reasons"]:
        context.out.warn(f"failed: {reason}")
